//! The rules about the text of the sources, line by line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::rules::PURE;
use crate::workspace::Workspace;

/// A file that is longer must say why.
const LONGEST_FILE: usize = 700;
/// How a long file says why.
const LONG_BECAUSE: &str = "// Long because ";

// The rules' own text must not break them.
const MUTABLE_STATIC: &str = concat!("static ", "mut ");
const UNFINISHED_WORDS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
];
const UNFINISHED_MACROS: [&str; 2] = [concat!("to", "do!("), concat!("unimple", "mented!(")];
const SILENCERS: [&str; 2] = [concat!("#[al", "low("), concat!("#![al", "low(")];
const ASSEMBLY: [&str; 2] = [concat!("as", "m!("), concat!("naked_", "asm!(")];

/// Returns what is wrong with the text of the repository's own files.
pub(super) fn problems(workspace: &Workspace) -> Result<Vec<String>> {
    let root = workspace.root();
    let mut problems = Vec::new();
    for path in sources(root, workspace.target())? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        let pure = PURE
            .iter()
            .any(|package| name.starts_with(&format!("crates/{package}/")));
        problems.extend(
            of_text(&text, pure)
                .into_iter()
                .map(|(line, problem)| format!("{name}:{line}: {problem}")),
        );
    }
    Ok(problems)
}

/// Returns the source files below `root`, leaving out what is generated.
fn sources(root: &Path, target: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && name != "target" && path != target {
                    directories.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|end| end == "rs" || end == "S")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Returns line numbers and problems of one file.
fn of_text(text: &str, pure: bool) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    let length = text.lines().count();
    if length > LONGEST_FILE && !text.lines().any(|line| line.starts_with(LONG_BECAUSE)) {
        problems.push((
            length,
            format!("{length} lines: split the file, or say why with `{LONG_BECAUSE}…`"),
        ));
    }
    let mut rest = text;
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or(line);
        // A reference that lives for ever is none.
        if code.replace("'static", "").contains(MUTABLE_STATIC) {
            problems.push((
                number,
                "a mutable static: use a value, or an atomic".to_owned(),
            ));
        }
        for word in UNFINISHED_WORDS.iter().filter(|word| has_word(line, word)) {
            problems.push((number, format!("{word}: finish it, or file it")));
        }
        for start in UNFINISHED_MACROS
            .iter()
            .filter(|start| code.contains(**start))
        {
            problems.push((number, format!("{start}…): unfinished code")));
        }
        if SILENCERS.iter().any(|start| code.contains(start)) {
            let end = rest.find(")]").unwrap_or(rest.len());
            if !rest
                .get(..end)
                .is_some_and(|attribute| attribute.contains("reason"))
            {
                let what = "a lint silenced without a reason: use #[expect(…, reason = \"…\")]";
                problems.push((number, what.to_owned()));
            }
        }
        if pure && ASSEMBLY.iter().any(|start| code.contains(start)) {
            problems.push((number, "assembly in a pure crate".to_owned()));
        }
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    problems
}

/// Tells whether `word` stands in the line by itself.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line
            .get(start + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(is_letter) && !after.is_some_and(is_letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        of_text(text, false)
            .into_iter()
            .map(|(line, _)| line)
            .collect()
    }

    #[test]
    fn mutable_statics_are_found_in_code_only() {
        assert_eq!(
            lines(&format!("fn a() {{}}\n{MUTABLE_STATIC}A: u8 = 0;\n")),
            [2]
        );
        let forever = format!("fn a(_: &'{MUTABLE_STATIC}u8) {{}}\n");
        assert!(lines(&forever).is_empty());
        assert!(lines(&format!("// no {MUTABLE_STATIC}here\n")).is_empty());
    }

    #[test]
    fn unfinished_work_is_found_as_a_word() {
        let [word, ..] = UNFINISHED_WORDS;
        assert_eq!(lines(&format!("// {word}: later\n")), [1]);
        assert!(lines(&format!("const MAS{word}: u8 = 0;\n")).is_empty());
        for start in UNFINISHED_MACROS {
            assert_eq!(lines(&format!("fn a() {{ {start}) }}\n")), [1]);
        }
    }

    #[test]
    fn a_silenced_lint_needs_a_reason() {
        for start in SILENCERS {
            assert_eq!(
                lines(&format!("fn a() {{}}\n{start}dead_code)]\nfn b() {{}}\n")),
                [2]
            );
            let reasoned = format!("{start}\n    dead_code,\n    reason = \"because\"\n)]\n");
            assert!(lines(&reasoned).is_empty());
        }
    }

    #[test]
    fn long_files_say_why() {
        let long = "fn a() {}\n".repeat(LONGEST_FILE + 1);
        assert_eq!(lines(&long), [LONGEST_FILE + 1]);
        assert!(lines(&format!("{LONG_BECAUSE}it is a table\n{long}")).is_empty());
    }

    #[test]
    fn pure_crates_have_no_assembly() {
        let [start, _] = ASSEMBLY;
        let text = format!("core::arch::{start}\"nop\");\n");
        assert_eq!(of_text(&text, true).len(), 1);
        assert!(of_text(&text, false).is_empty());
    }
}
