//! YAML: a tree that knows its places in the text, paths into it, and the edit of single scalars.

mod edit;
mod error;
mod find;
mod parse;
mod path;
mod quote;
mod template;
mod tree;
mod verify;

pub use edit::{Edited, Replaced, Values, decode, edit};
pub use error::{Documents, EditError, EditErrorKind};
pub use parse::{parse, parse_all};
pub use path::{Path, PathError, Segment};
pub use tree::{Alias, Content, Document, Node, Style, SyntaxError};
