//! The links between the pages of the repository lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("examples/ is in the repository")
        .to_owned()
}

/// Returns the pages: the book, and the README and CHANGELOG of the whole.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    let mut directories = vec![root().join("docs")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("it is a directory") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// Returns the targets of the links in a page that stay within the repository.
fn local_links(text: &str) -> Vec<&str> {
    let after_label = text.split("](").skip(1);
    let targets = after_label.filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

#[test]
fn every_link_leads_to_a_file() {
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page is text");
        let directory = page.parent().expect("a page is in a directory");
        for link in local_links(&text) {
            let target = directory.join(link);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
}

#[test]
fn every_page_of_the_book_is_in_its_summary() {
    let book = root().join("docs");
    let summary = fs::read_to_string(book.join("SUMMARY.md")).expect("the book has one");
    let listed: Vec<PathBuf> = local_links(&summary)
        .iter()
        .map(|link| book.join(link))
        .collect();
    for page in pages() {
        let in_book = page.starts_with(&book) && !page.ends_with("SUMMARY.md");
        assert!(!in_book || listed.contains(&page), "{}", page.display());
    }
}

#[test]
fn links_are_found_and_addresses_of_sites_are_not() {
    let text = "[a](b.md), [c](https://example.org/d) and [e](f.md#part) [g](#here)";
    assert_eq!(local_links(text), ["b.md", "f.md"]);
}
