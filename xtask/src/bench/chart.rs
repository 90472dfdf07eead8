//! Bar charts, as SVG.

use std::fmt::Write;

/// What is shown of one operation, in instructions.
pub(crate) struct Bars<'a> {
    pub(crate) title: &'a str,
    pub(crate) bare: Option<u64>,
    pub(crate) here: u64,
    pub(crate) required: Option<u64>,
}

/// Sizes, in the unit of the picture.
const TITLES: u64 = 250;
const BARS: u64 = 560;
const NUMBERS: u64 = 70;
const ROW: u64 = 34;
const BAR: u64 = 12;
const HEAD: u64 = 44;
const WIDTH: u64 = TITLES + BARS + NUMBERS;

/// The colours have contrast enough on white and on black; text takes the
/// reader's scheme.
const STYLE: &str = "\
text{font:13px sans-serif;fill:#1f2328}\
.number{font-size:11px}\
.bare{fill:#8b949e}.here{fill:#2f81f7}.required{stroke:#d1242f;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}}";

/// Draws the operations one below the other: a bar for what each costs here, a
/// thinner one for what it costs without the hypervisor, and a mark for what is
/// required.
pub(crate) fn svg(rows: &[Bars<'_>]) -> String {
    let most = rows
        .iter()
        .map(|row| row.here.max(row.required.unwrap_or_default()))
        .max();
    let scale = Scale(most.unwrap_or(1).max(1));
    let height = HEAD + ROW * rows.len() as u64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"Instructions per operation\">\n<style>{STYLE}</style>\n"
    );
    legend(&mut svg);
    for (row, number) in rows.iter().zip(0..) {
        draw(&mut svg, row, HEAD + number * ROW, scale);
    }
    svg.push_str("</svg>\n");
    svg
}

/// How many instructions the longest bar is.
#[derive(Clone, Copy)]
struct Scale(u64);

impl Scale {
    fn length(self, instructions: u64) -> u64 {
        instructions * BARS / self.0
    }
}

fn legend(svg: &mut String) {
    let mut left = TITLES;
    for (class, text, width) in [
        ("here", "here", 70),
        ("bare", "bare", 70),
        ("required", "required", 100),
    ] {
        let sample = match class {
            "required" => line(left + 6, 8, 14),
            class => bar(class, left, 10, 12, 10),
        };
        svg.push_str(&sample);
        svg.push_str(&label("", left + 18, 20, text));
        left += width;
    }
    svg.push_str(&label("", 0, 20, "instructions per operation"));
}

fn draw(svg: &mut String, row: &Bars<'_>, top: u64, scale: Scale) {
    let here = scale.length(row.here);
    svg.push_str(&label("", 0, top + BAR, row.title));
    svg.push_str(&bar("here", TITLES, top, here, BAR));
    if let Some(bare) = row.bare {
        let bare = scale.length(bare).max(1);
        svg.push_str(&bar("bare", TITLES, top + BAR + 1, bare, BAR / 2));
    }
    let mut end = TITLES + here;
    if let Some(required) = row.required {
        let mark = TITLES + scale.length(required);
        svg.push_str(&line(mark, top - 3, BAR + 6));
        // Neither on the bar nor on the mark.
        end = end.max(mark);
    }
    let end = end + 5;
    svg.push_str(&label("number", end, top + BAR - 2, &row.here.to_string()));
}

fn bar(class: &str, left: u64, top: u64, width: u64, height: u64) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>\n"
    )
}

fn line(left: u64, top: u64, height: u64) -> String {
    let end = top + height;
    format!("<line class=\"required\" x1=\"{left}\" y1=\"{top}\" x2=\"{left}\" y2=\"{end}\"/>\n")
}

fn label(class: &str, left: u64, bottom: u64, text: &str) -> String {
    let mut label = format!("<text x=\"{left}\" y=\"{bottom}\"");
    if !class.is_empty() {
        // Writing to a string has no errors.
        let _ = write!(label, " class=\"{class}\"");
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    label + &format!(">{text}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(title: &str, bare: Option<u64>, here: u64) -> Bars<'_> {
        Bars {
            title,
            bare,
            here,
            required: Some(500),
        }
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_the_others_are_in_proportion() {
        let svg = svg(&[row("a", None, 1000), row("b", Some(250), 500)]);
        for width in [BARS, BARS / 2] {
            let bar = format!("class=\"here\" x=\"{TITLES}\"");
            let lines: Vec<_> = svg.lines().filter(|line| line.contains(&bar)).collect();
            let width = format!("width=\"{width}\"");
            assert!(lines.iter().any(|line| line.contains(&width)), "{svg}");
        }
        assert!(svg.contains(&format!("width=\"{}\" height=\"{}\"", BARS / 4, BAR / 2)));
        // The legend's own mark, and one for each row.
        assert_eq!(svg.matches("<line ").count(), 3);
    }

    #[test]
    fn text_is_text() {
        assert!(svg(&[row("a<b & c", None, 1)]).contains("a&lt;b &amp; c"));
    }

    #[test]
    fn nothing_to_show_is_a_picture_as_well() {
        assert!(svg(&[]).ends_with("</svg>\n"));
    }
}
