//! What must hold of every edit of every text. The fuzz target and the tests share it.

use std::num::NonZeroUsize;
use std::ops::Range;

use watcher_core::yaml::{Content, Document, Node, Path, Segment, Style, Values, edit, parse_all};

/// Values of all kinds that an address or a name can be.
pub(crate) const VALUES: [&str; 12] = [
    "db02:5432",
    "10.0.0.11",
    "5433",
    "[::1]:5432",
    "it's",
    "a \"b\" \\ c",
    "主系",
    "no",
    "0x1f",
    " x ",
    "a: b # c",
    "",
];

/// A scalar of a text.
pub(crate) struct Scalar {
    /// Its document, counted from 1.
    pub(crate) document: usize,
    /// Its path.
    pub(crate) path: Path,
    /// Its bytes.
    pub(crate) span: Range<usize>,
}

/// Every scalar that a path leads to, in the order of the text.
pub(crate) fn scalars(documents: &[Document]) -> Vec<Scalar> {
    let mut found = Vec::new();
    for (document, number) in documents.iter().zip(1..) {
        if let Some(root) = &document.root {
            collect(root, "", number, &mut found);
        }
    }
    found
}

fn collect(node: &Node, path: &str, document: usize, found: &mut Vec<Scalar>) {
    match &node.content {
        Content::Scalar { .. } => {
            // A scalar at the top has no path.
            if let Ok(path) = path.parse() {
                found.push(Scalar { document, path, span: node.span.clone() });
            }
        }
        Content::Alias { .. } => {}
        Content::Sequence(items) => {
            for (at, item) in items.iter().enumerate() {
                collect(item, &format!("{path}[{at}]"), document, found);
            }
        }
        Content::Mapping(entries) => {
            for (key, value) in entries {
                if let Content::Scalar { value: key, .. } = &key.content {
                    let key = key.replace('\\', "\\\\").replace('"', "\\\"");
                    let dot = if path.is_empty() { "" } else { "." };
                    collect(value, &format!("{path}{dot}\"{key}\""), document, found);
                }
            }
        }
    }
}

/// Edits one scalar and checks everything that can be checked from outside. True if it was edited.
pub(crate) fn edit_one(text: &str, which: usize, value: usize) -> bool {
    let Ok(documents) = parse_all(text) else {
        let none = Values { document: None, set: Vec::new() };
        assert!(edit(text, &none).is_err(), "what is no YAML is refused");
        return false;
    };
    let all = scalars(&documents);
    let Some(scalar) = all.get(which % all.len().max(1)) else { return false };
    let value = VALUES[value % VALUES.len()];
    let document = NonZeroUsize::new(scalar.document).filter(|_| documents.len() > 1);
    let wanted = Values { document, set: vec![(scalar.path.clone(), value.to_owned())] };
    let edited = match edit(text, &wanted) {
        Ok(edited) => edited,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };

    // The bytes before and behind the scalar are the same ones.
    let (before, after) = (&text[..scalar.span.start], &text[scalar.span.end..]);
    if edited.replaced.is_empty() {
        assert_eq!(edited.text, text);
    } else {
        assert!(
            edited.text.len() >= before.len() + after.len()
                && edited.text.starts_with(before)
                && edited.text.ends_with(after),
            "more than {} changed: {text:?} => {:?}",
            scalar.path,
            edited.text
        );
    }

    // The documents differ in that scalar only, which keeps its quotes.
    let mut now = parse_all(&edited.text).expect("the edited text is YAML");
    assert_eq!(now.len(), documents.len());
    let (was, is) = (target(&documents, scalar).clone(), target(&now, scalar).clone());
    let Content::Scalar { value: found, style } = &is.content else { panic!("it is no scalar any more") };
    assert_eq!(found, value);
    if let Content::Scalar { style: Style::DoubleQuoted | Style::SingleQuoted, .. } = &was.content {
        assert!(matches!(style, Style::DoubleQuoted | Style::SingleQuoted), "the quotes are gone: {:?}", edited.text);
    }
    assert_eq!((&was.tag, &was.anchor), (&is.tag, &is.anchor));
    target_mut(&mut now, scalar).content = was.content.clone();
    let (old, new) = (documents.iter().map(without_places), now.iter().map(without_places));
    assert!(old.eq(new), "more than {} is read differently: {text:?} => {:?}", scalar.path, edited.text);

    // Once more, there is nothing to do.
    let again = edit(&edited.text, &wanted).expect("what was edited can be edited again");
    assert!(again.replaced.is_empty() && again.text == edited.text);
    !edited.replaced.is_empty()
}

fn target<'d>(documents: &'d [Document], scalar: &Scalar) -> &'d Node {
    let root = documents[scalar.document - 1].root.as_ref().expect("a root");
    scalar.path.segments().iter().fold(root, |node, segment| step(node, segment))
}

fn step<'d>(node: &'d Node, segment: &Segment) -> &'d Node {
    match (&node.content, segment) {
        (Content::Sequence(items), Segment::Index(index)) => &items[*index],
        (Content::Mapping(entries), Segment::Key(key)) => {
            let is_it = |node: &Node| matches!(&node.content, Content::Scalar { value, .. } if value == key);
            &entries.iter().find(|(key, _)| is_it(key)).expect("the key is still there").1
        }
        (Content::Scalar { .. } | Content::Alias { .. } | Content::Sequence(_) | Content::Mapping(_), _) => {
            panic!("the path does not lead there any more")
        }
    }
}

fn target_mut<'d>(documents: &'d mut [Document], scalar: &Scalar) -> &'d mut Node {
    let mut node = documents[scalar.document - 1].root.as_mut().expect("a root");
    for segment in scalar.path.segments() {
        node = match (&mut node.content, segment) {
            (Content::Sequence(items), Segment::Index(index)) => &mut items[*index],
            (Content::Mapping(entries), Segment::Key(key)) => {
                let is_it = |node: &Node| matches!(&node.content, Content::Scalar { value, .. } if value == key);
                &mut entries.iter_mut().find(|(key, _)| is_it(key)).expect("the key is still there").1
            }
            (Content::Scalar { .. } | Content::Alias { .. } | Content::Sequence(_) | Content::Mapping(_), _) => {
                panic!("the path does not lead there any more")
            }
        };
    }
    node
}

/// A document as what it says, without where it says it.
fn without_places(document: &Document) -> Option<Node> {
    fn forget(node: &mut Node) {
        node.line = 0;
        node.span = 0..0;
        match &mut node.content {
            Content::Scalar { .. } | Content::Alias { .. } => {}
            Content::Sequence(items) => items.iter_mut().for_each(forget),
            Content::Mapping(entries) => entries.iter_mut().for_each(|(key, value)| {
                forget(key);
                forget(value);
            }),
        }
    }
    let mut root = document.root.clone();
    if let Some(root) = &mut root {
        forget(root);
    }
    root
}
