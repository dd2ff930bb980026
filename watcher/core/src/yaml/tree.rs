//! A YAML document as a tree in which every node knows its line and its bytes.

use std::collections::HashMap;
use std::ops::Range;

use thiserror::Error;

/// One document of a YAML text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The line it begins on, counted from 1.
    pub line: usize,
    /// The top of the document; `None` for a text that holds nothing.
    pub root: Option<Node>,
    /// Where aliases stand, with the anchor each of them means.
    pub aliases: Vec<Alias>,
    /// The line of each anchor, by its number.
    pub anchors: Vec<(usize, usize)>,
}

/// One `*alias` in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// The number of the anchor it repeats.
    pub anchor: usize,
    /// The line it stands on.
    pub line: usize,
}

/// A node and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The line, counted from 1.
    pub line: usize,
    /// The bytes of the node without its anchor and tag; of a collection only its first mark.
    pub span: Range<usize>,
    /// The number of the anchor that stands before it.
    pub anchor: Option<usize>,
    /// The tag that stands before it.
    pub tag: Option<String>,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A scalar, as text: what it means is the reader's affair.
    Scalar {
        /// The text, unquoted and unescaped.
        value: String,
        /// How it is written.
        style: Style,
    },
    /// A repetition of the anchored node.
    Alias {
        /// The anchor's number.
        anchor: usize,
    },
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the text.
    Mapping(Vec<(Node, Node)>),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In `'`.
    SingleQuoted,
    /// In `"`.
    DoubleQuoted,
    /// As a `|` or `>` block.
    Block,
}

/// A text that is not YAML, or not of the kind that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct SyntaxError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

impl Document {
    /// The line on which an anchor stands.
    pub fn anchor_line(&self, anchor: usize) -> Option<usize> {
        self.anchors.iter().find(|(id, _)| *id == anchor).map(|(_, line)| *line)
    }

    /// The first alias that repeats an anchor.
    pub fn alias_of(&self, anchor: usize) -> Option<Alias> {
        self.aliases.iter().copied().find(|alias| alias.anchor == anchor)
    }

    /// The nodes that bear anchors, by the anchors' numbers.
    pub fn by_anchor(&self) -> HashMap<usize, &Node> {
        let mut found = HashMap::with_capacity(self.anchors.len());
        if let Some(root) = self.root.as_ref().filter(|_| !self.anchors.is_empty()) {
            root.collect_anchored(&mut found);
        }
        found
    }
}

impl Node {
    fn collect_anchored<'d>(&'d self, found: &mut HashMap<usize, &'d Self>) {
        if let Some(anchor) = self.anchor {
            found.insert(anchor, self);
        }
        match &self.content {
            Content::Scalar { .. } | Content::Alias { .. } => {}
            Content::Sequence(items) => items.iter().for_each(|item| item.collect_anchored(found)),
            Content::Mapping(entries) => entries.iter().for_each(|(key, value)| {
                key.collect_anchored(found);
                value.collect_anchored(found);
            }),
        }
    }
}
