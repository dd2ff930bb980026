//! YAML: a tree that knows its places in the text, paths into it, and the edit of single scalars.

mod edit;
mod error;
mod path;
mod quote;
mod tree;
mod verify;

pub use edit::{Edited, Replaced, decode, edit};
pub use error::{EditError, EditErrorKind};
pub use path::{Path, PathError, Segment};
pub use tree::{Content, Document, Node, Style, SyntaxError, parse};
