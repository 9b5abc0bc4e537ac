//! Names that both languages accept.

use std::collections::BTreeSet;

/// Names that were given, so that each is given once.
#[derive(Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// A name in lower case made of a node's: what is no letter or digit becomes `_`, once where
    /// several follow each other, and a number is added where it is taken.
    pub(crate) fn constant(&mut self, name: &str) -> String {
        let letters = name.chars().map(|c| c.to_ascii_lowercase());
        let letters = letters.map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' });
        let letters: String = letters.take(60).collect();
        let words: Vec<&str> = letters.split_whitespace().collect();
        let mut plain = words.join("_");
        if !plain.starts_with(|c: char| c.is_ascii_lowercase()) {
            plain.insert(0, 'n');
        }
        let mut found = plain.clone();
        let mut number = 2;
        // A name comes with those of its lists.
        let all = |name: &str| LISTS.map(|list| format!("{name}{list}"));
        while all(&found).iter().any(|name| self.taken.contains(name)) {
            found = format!("{plain}_{number}");
            number += 1;
        }
        self.taken.extend(all(&found));
        found
    }

    /// A name that is not given.
    pub(crate) fn keep(&mut self, name: &str) {
        self.taken.insert(name.into());
    }
}

/// What is added to a step's name for itself and for its lists.
const LISTS: [&str; 11] = [
    "",
    "_then",
    "_rows",
    "_columns",
    "_weights",
    "_bias",
    "_table",
    "_shape",
    "_multiplier",
    "_offset",
    "_shift",
];

/// A name as it can stand in a comment.
pub(crate) fn printable(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._- ".contains(c);
    name.chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

/// Words that name a crate, a prefix of functions or a header badly.
const TAKEN: [&str; 16] = [
    "alloc",
    "core",
    "std",
    "test",
    "proc_macro",
    "build",
    "deps",
    "examples",
    "incremental",
    "self",
    "super",
    "crate",
    "abstract",
    "gen",
    "main",
    "stdint",
];

/// Keywords of Rust and C that are written as a name is.
const KEYWORDS: [&str; 68] = [
    "as",
    "async",
    "auto",
    "await",
    "become",
    "box",
    "break",
    "case",
    "char",
    "const",
    "continue",
    "default",
    "do",
    "double",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "float",
    "fn",
    "for",
    "goto",
    "if",
    "impl",
    "in",
    "inline",
    "int",
    "let",
    "long",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "pub",
    "ref",
    "register",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "trait",
    "true",
    "try",
    "type",
    "typedef",
    "typeof",
    "union",
    "unsafe",
    "unsigned",
    "unsized",
    "use",
    "virtual",
    "void",
    "volatile",
    "where",
    "while",
    "yield",
    "macro_rules",
];

/// Why a network cannot be called so, if it cannot.
pub(crate) fn refuse(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let fits = name.len() <= 60
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(plain);
    if !fits {
        return Some("a name has 1 to 60 of a to z, 0 to 9 and _, a letter first".into());
    }
    let integer = name.trim_start_matches('u').starts_with("int")
        && (name.ends_with(|c: char| c.is_ascii_digit()) || name.ends_with("max"));
    let taken = integer || TAKEN.contains(&name) || KEYWORDS.contains(&name);
    taken.then(|| "the name has a meaning of its own".into())
}
