//! The live view: rates, renewed again and again until a key ends it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table as Widget};
use ratatui::{DefaultTerminal, Frame};

use super::Watch;
use super::table::{Table, Unit};

/// Shows the rates until the user leaves or the machine ends.
pub(super) fn show(watch: &mut Watch, interval: Duration) -> Result<()> {
    ensure!(
        rustix::termios::isatty(std::io::stdout()),
        "this is no terminal: use --once"
    );
    let mut terminal = ratatui::try_init().context("cannot use this terminal")?;
    let result = run(&mut terminal, watch, interval);
    ratatui::restore();
    result
}

fn run(terminal: &mut DefaultTerminal, watch: &mut Watch, interval: Duration) -> Result<()> {
    let mut before = (Instant::now(), watch.snapshot()?);
    let mut table = Table::new(&watch.machine, &before.1, Unit::Exits);
    let mut title = "exits since the machine was started";
    loop {
        terminal.draw(|frame| draw(frame, &table, title))?;
        let next = before.0 + interval;
        while let Some(rest) = next.checked_duration_since(Instant::now()) {
            if !event::poll(rest)? {
                break;
            }
            match event::read()? {
                Event::Key(key) if leaves(key) => return Ok(()),
                Event::Resize(..) => {
                    terminal.draw(|frame| draw(frame, &table, title))?;
                }
                _ => {}
            }
        }
        let snapshot = watch.snapshot().context("the machine has ended")?;
        let now = Instant::now();
        let unit = Unit::PerSecond(now - before.0);
        table = Table::new(&watch.machine, &snapshot.since(&before.1), unit);
        title = "exits per second";
        before = (now, snapshot);
    }
}

/// Tells whether this key ends the view: q, Esc or Ctrl-C.
fn leaves(key: KeyEvent) -> bool {
    let interrupts = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => interrupts,
            _ => false,
        }
}

fn draw(frame: &mut Frame<'_>, table: &Table, title: &str) {
    let rows = [Constraint::Length(1), Constraint::Fill(1)];
    let [top, rest] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Line::from(format!("armature: {title}   q quits")), top);
    let widths = table.widths().into_iter();
    let widths = widths.map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let rows = table.rows.iter().map(|row| {
        let style = if row.is_sum { bold } else { Style::new() };
        Row::new(row.cells.iter().map(|text| right(text))).style(style)
    });
    let titles = Row::new(table.titles.iter().map(|text| right(text)));
    let titles = titles.style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(
        Widget::new(rows, widths).header(titles).column_spacing(2),
        rest,
    );
}

fn right(text: &str) -> Line<'_> {
    Line::from(text).right_aligned()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::super::counters::Snapshot;
    use super::super::super::machine::{Machine, fakes};
    use super::*;

    #[test]
    fn a_table_is_drawn_as_far_as_it_fits() {
        let (mut memory, anchor) = fakes::memory();
        let machine = Machine::find(&mut memory, anchor).unwrap().unwrap();
        let exits = Snapshot::take(&machine, &mut memory).unwrap();
        let table = Table::new(&machine, &exits, Unit::Exits);
        let mut terminal = Terminal::new(TestBackend::new(34, 4)).unwrap();
        terminal.draw(|frame| draw(frame, &table, "exits")).unwrap();
        terminal.backend().assert_buffer_lines(expected());
    }

    fn expected() -> [Line<'static>; 4] {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        [
            Line::from("armature: exits   q quits         "),
            Line::styled("   VM  vCPU  all  hvc  other      ", reversed),
            Line::styled("0 one   all    3    0      3      ", bold),
            Line::from("          0    3    0      3      "),
        ]
    }

    #[test]
    fn only_some_keys_leave() {
        let key = |code, modifiers| leaves(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Char('x'), KeyModifiers::NONE));
    }
}
