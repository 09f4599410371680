//! Where benches and long tests leave their figures: all of them in `dist/`, and what documents show of them in those,
//! so that no figure is copied by hand.

use std::{fs, path::Path};

/// Writes a file of figures into `dist/`, and says so.
///
/// # Panics
///
/// When it cannot be written.
pub fn keep(file: &str, text: &str) {
    let dist = root().join("dist");
    fs::create_dir_all(&dist).expect("dist/ can be made");
    fs::write(dist.join(file), text).unwrap_or_else(|error| panic!("dist/{file} can be written: {error}"));
    println!("written to dist/{file}");
}

/// Puts a text into a document of this repository, named by its path, in place of what stands there between the marks
/// `<!-- begin: PART -->` and `<!-- end: PART -->`.
///
/// # Panics
///
/// When there is no such document, or it has no such part.
pub fn show(document: &str, part: &str, text: &str) {
    let path = root().join(document);
    let before = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document} can be read: {error}"));
    let after = replaced(&before, part, text).unwrap_or_else(|| panic!("{document} has no part `{part}`"));
    fs::write(path, after).unwrap_or_else(|error| panic!("{document} can be written: {error}"));
    println!("written to {document}: {part}");
}

/// A document with this text between the marks of a part; none if they are not there.
fn replaced(document: &str, part: &str, text: &str) -> Option<String> {
    let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- {mark}: {part} -->\n"));
    let (head, rest) = document.split_once(&begin)?;
    let (_, tail) = rest.split_once(&end)?;
    Some(format!("{head}{begin}\n{}\n\n{end}{tail}", text.trim()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is inside the workspace")
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_part_of_a_document_is_replaced_and_nothing_else() {
        let document = "a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n<!-- begin: y -->\n<!-- end: y -->\n";
        let after = replaced(document, "x", "new\n").expect("a part");
        assert_eq!(after, "a\n<!-- begin: x -->\n\nnew\n\n<!-- end: x -->\nb\n<!-- begin: y -->\n<!-- end: y -->\n");
        assert_eq!(replaced(&after, "x", "new").as_ref(), Some(&after));
        assert_eq!(replaced(document, "z", "new"), None);
    }
}
