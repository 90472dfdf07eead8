//! One key of the file, its value, and what to say if it is refused.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, anyhow};
use serde::de::DeserializeOwned;
use toml::{Spanned, Value};

use crate::run::problem;

/// What the parser says and what it means to someone who writes such a file, in
/// which every list that it expects is one of tables.
const WORDS: [(&str, &str); 2] = [
    ("unknown field", "unknown key"),
    ("expected a sequence", "expected tables in double brackets"),
];

/// The file's text and where it came from.
pub(super) struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

/// A key that the file has.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    source: &'a Source<'a>,
    key: &'static str,
    value: &'a Spanned<Value>,
}

/// A table of the file.
pub(super) struct Table<'a> {
    source: &'a Source<'a>,
    offset: usize,
    /// What it has.
    entries: Vec<Entry<'a>>,
}

impl<'a> Table<'a> {
    /// Takes those of these keys that the table at `offset` has.
    pub(super) fn new<const N: usize>(
        source: &'a Source<'a>,
        offset: usize,
        keys: [(&'static str, &'a Option<Spanned<Value>>); N],
    ) -> Self {
        let entries = keys.into_iter();
        let entries = entries.filter_map(|(key, value)| source.entry(key, value));
        Self {
            source,
            offset,
            entries: entries.collect(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry<'a>> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.key() == key).copied()
    }

    /// Returns the value of a switch, which is off if it is not there.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        self.get(key).map_or(Ok(false), |entry| entry.flag())
    }

    /// Says what is wrong with the table itself.
    pub(super) fn error(&self, what: impl Display) -> Error {
        self.source.error(self.offset, what)
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text }
    }

    /// Reads the whole file into `T`.
    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        toml::from_str(self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let message = WORDS
                .iter()
                .fold(error.message().to_owned(), |message, (theirs, ours)| {
                    message.replace(theirs, ours)
                });
            let line = self.text.lines().nth(self.line(offset) - 1);
            let line = line.unwrap_or_default().trim();
            self.error(offset, format_args!("{message}, in the line `{line}`"))
        })
    }

    /// Returns the number of the line with the byte at `offset`.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.text.bytes().take(offset);
        1 + before.filter(|byte| *byte == b'\n').count()
    }

    /// Says what is wrong at `offset`.
    pub(super) fn error(&self, offset: usize, what: impl Display) -> Error {
        anyhow!("{}:{}: {what}", self.file.display(), self.line(offset))
    }

    /// Returns the entry for a key, if the file has it.
    pub(super) fn entry(
        &'a self,
        key: &'static str,
        value: &'a Option<Spanned<Value>>,
    ) -> Option<Entry<'a>> {
        value.as_ref().map(|value| Entry {
            source: self,
            key,
            value,
        })
    }
}

impl<'a> Entry<'a> {
    pub(super) fn key(&self) -> &'static str {
        self.key
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value.get_ref()
    }

    /// Returns where the value is.
    pub(super) fn offset(&self) -> usize {
        self.value.span().start
    }

    /// Says that the value is none of what is allowed.
    pub(super) fn refuse(&self, allowed: impl Display) -> Error {
        let (key, value) = (self.key, self.value());
        self.source.error(
            self.offset(),
            format_args!("{key} = {value}; allowed is {allowed}"),
        )
    }

    /// Says that the key has no place beside the others.
    pub(super) fn misplaced(&self, why: impl Display) -> Error {
        self.source
            .error(self.offset(), format_args!("{}: {why}", self.key))
    }

    /// Returns an integer that lies in `range`; `unit` says of what.
    pub(super) fn number<T>(&self, range: &RangeInclusive<T>, unit: &str) -> Result<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = self.value().as_integer();
        number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (first, last) = (range.start(), range.end());
                self.refuse(format_args!("an integer {unit}from {first} to {last}"))
            })
    }

    pub(super) fn text(&self, allowed: &str, fits: impl Fn(&str) -> bool) -> Result<&'a str> {
        let text = self.value().as_str();
        text.filter(|text| fits(text))
            .ok_or_else(|| self.refuse(allowed))
    }

    pub(super) fn flag(&self) -> Result<bool> {
        let flag = self.value().as_bool();
        flag.ok_or_else(|| self.refuse("true or false"))
    }

    /// Returns the path of a file that exists, seen from the file that names it.
    pub(super) fn file(&self) -> Result<PathBuf> {
        let name = self.text("the path of a file, relative to this one", |name| {
            !name.is_empty()
        })?;
        let directory = self.source.file.parent().unwrap_or(Path::new(""));
        let path = directory.join(name);
        let Some(problem) = problem(&path) else {
            return Ok(path);
        };
        let path = path.display();
        Err(self.refuse(format_args!(
            "the path of a file, relative to this one; {path} {problem}"
        )))
    }
}
