//! The keys that clients show, from a file that is read again when it changes.
//!
//! Keys are kept and compared as digests. No error and no line of the log holds anything of what a
//! file or a client gives as a key.

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use symphony_tls::{FileLook, FileWatch, FilesSeen, TlsError, read_bounded};
use toml::{Table, Value};

/// Each request is compared with every key.
const KEYS_MAX: usize = 1024;

/// A shorter key could be guessed.
const KEY_MIN: usize = 16;

/// A longer one does not fit among the other headers.
const KEY_MAX: usize = 1024;

const NAME_MAX: usize = 128;

/// What a key lets its owner do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes {
    pub(crate) infer: bool,
    pub(crate) admin: bool,
}

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// Whose it is, for people.
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    digest: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The keys of a file, as it is now.
#[derive(Debug)]
pub(crate) struct Keys {
    current: Arc<ArcSwap<Vec<Key>>>,
    _watch: FileWatch,
}

/// A file of keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the keys {}: {reason}", path.display())]
    Read {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// The file does not say which keys there are.
    #[error("the keys {}: {reason}", path.display())]
    Content {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, without anything of what stands there.
        reason: String,
    },
    /// The file cannot be watched.
    #[error(transparent)]
    Watch(#[from] TlsError),
}

impl Keys {
    /// Reads the file, and looks for changes from then on.
    ///
    /// # Errors
    /// The file cannot be used; names it and what is wrong.
    pub(crate) fn open(path: PathBuf) -> Result<Keys, KeysError> {
        let seen = FilesSeen::now([path.clone()]);
        let current = Arc::new(ArcSwap::new(Arc::new(read(&path)?)));
        let renewed = Arc::clone(&current);
        let renew = move |look| {
            if look == FileLook::Changed {
                renew(&path, &renewed);
            }
        };
        Ok(Keys { current, _watch: FileWatch::start("keys-file", seen, renew)? })
    }

    /// The key that a client shows, if it is one of these. How long this takes does not depend on
    /// how much of a key is right, nor on which one it is.
    pub(crate) fn find(&self, shown: &[u8]) -> Option<Key> {
        let digest: [u8; 32] = Sha256::digest(shown).into();
        let mut found = None;
        let keys = self.current.load();
        for (index, key) in keys.iter().enumerate() {
            if bool::from(key.digest.ct_eq(&digest)) {
                found = Some(index);
            }
        }
        found.map(|index| keys[index].clone())
    }
}

fn renew(path: &Path, current: &ArcSwap<Vec<Key>>) {
    match read(path) {
        Ok(keys) => {
            tracing::info!("the keys {} were read anew: {}", path.display(), keys.len());
            current.store(Arc::new(keys));
        }
        Err(error) => tracing::error!("{error}; the keys from before hold on"),
    }
}

fn read(path: &Path) -> Result<Vec<Key>, KeysError> {
    let bytes =
        read_bounded(path).map_err(|reason| KeysError::Read { path: path.to_owned(), reason })?;
    parse(&bytes).map_err(|reason| KeysError::Content { path: path.to_owned(), reason })
}

fn parse(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    // What the reader of TOML says quotes the line, and so perhaps a key.
    let table: Table = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        format!("line {} is not TOML", before.matches('\n').count() + 1)
    })?;
    if table.keys().any(|name| name != "key") {
        return Err("there is something outside of the [[key]] sections".to_owned());
    }
    let entries = match table.get("key") {
        Some(Value::Array(entries)) => entries.as_slice(),
        None => &[],
        Some(_) => return Err("write [[key]] with two brackets before each key".to_owned()),
    };
    let keys = entries.iter().zip(1..).map(|(entry, number)| {
        let entry = entry.as_table().ok_or_else(|| "is no section [[key]]".to_owned());
        entry.and_then(key).map_err(|reason| format!("the key number {number} {reason}"))
    });
    let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
    check_all(&keys)?;
    Ok(keys)
}

fn check_all(keys: &[Key]) -> Result<(), String> {
    if keys.is_empty() {
        return Err("the file holds no [[key]]; without keys_file no key is asked for".to_owned());
    }
    if keys.len() > KEYS_MAX {
        return Err(format!("{} keys are more than the {KEYS_MAX} that are taken", keys.len()));
    }
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    for key in keys {
        if !names.insert(&key.name) {
            return Err(format!("two keys are called {:?}", key.name));
        }
        if !digests.insert(key.digest) {
            return Err(format!("the key {:?} is the same as another", key.name));
        }
    }
    Ok(())
}

/// Reads one section; an error is the end of a sentence about it.
fn key(entry: &Table) -> Result<Key, String> {
    let text = |member: &str| match entry.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("has a `{member}` that is no text")),
    };
    if entry.keys().any(|name| !["name", "key", "sha256", "scopes"].contains(&name.as_str())) {
        return Err("has a member other than name, key, sha256 and scopes".to_owned());
    }
    let name = text("name")?.filter(|name| (1..=NAME_MAX).contains(&name.len()));
    let name = name.ok_or("has no name: give one, which the log can use")?;
    let of = |reason: String| format!("({name:?}) {reason}");
    let digest = match (text("key").map_err(of)?, text("sha256").map_err(of)?) {
        (Some(key), None) => digest_of(key).map_err(of)?,
        (None, Some(hex)) => from_hex(hex)
            .ok_or_else(|| of("has a sha256 that is not 64 hexadecimal digits".to_owned()))?,
        _ => return Err(of("has to have either key or sha256".to_owned())),
    };
    let scopes = scopes(entry.get("scopes")).map_err(of)?;
    Ok(Key { name: name.to_owned(), scopes, digest })
}

fn digest_of(key: &str) -> Result<[u8; 32], String> {
    if !(KEY_MIN..=KEY_MAX).contains(&key.len()) {
        return Err(format!(
            "is not of {KEY_MIN} to {KEY_MAX} characters: make one with `openssl rand -hex 32`"
        ));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "holds characters that no header can: make one of letters and digits".to_owned()
        );
    }
    Ok(Sha256::digest(key).into())
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

fn scopes(value: Option<&Value>) -> Result<Scopes, String> {
    const WANTED: &str = "has to have scopes = [\"infer\"], [\"admin\"] or both";
    let mut scopes = Scopes::default();
    let Some(Value::Array(names)) = value else { return Err(WANTED.to_owned()) };
    for name in names {
        match name.as_str() {
            Some("infer") => scopes.infer = true,
            Some("admin") => scopes.admin = true,
            _ => return Err(WANTED.to_owned()),
        }
    }
    if scopes == Scopes::default() {
        return Err(WANTED.to_owned());
    }
    Ok(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "s3cret-s3cret-s3cret";

    fn file(lines: &str) -> Result<Vec<Key>, String> {
        parse(lines.replace("SECRET", SECRET).as_bytes())
    }

    #[test]
    fn keys_are_read_as_they_are_or_as_their_digests() {
        let hex: String = Sha256::digest("another-key-of-someone")
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let keys = file(&format!(
            "[[key]]\nname = \"team\"\nkey = \"SECRET\"\nscopes = [\"infer\"]\n\
             [[key]]\nname = \"ops\"\nsha256 = \"{hex}\"\nscopes = [\"admin\", \"infer\"]\n"
        ))
        .unwrap();
        assert_eq!(keys[0].digest, <[u8; 32]>::from(Sha256::digest(SECRET)));
        assert_eq!(keys[0].scopes, Scopes { infer: true, admin: false });
        assert_eq!(keys[1].digest, <[u8; 32]>::from(Sha256::digest("another-key-of-someone")));
        assert_eq!(keys[1].scopes, Scopes { infer: true, admin: true });
        assert_eq!(format!("{:?}", keys[0]), "Key { name: \"team\", .. }");
    }

    #[test]
    fn what_is_wrong_is_said_without_saying_what_stands_there() {
        let one = |rest: &str| format!("[[key]]\nname = \"team\"\n{rest}");
        let good = "[[key]]\nname = \"team\"\nkey = \"SECRET\"\nscopes = [\"infer\"]\n";
        let cases = [
            (String::new(), "holds no [[key]]"),
            ("SECRET\n".to_owned(), "line 1 is not TOML"),
            (one("key = \"SECRET\nscopes = []"), "line 3 is not TOML"),
            (one("key = SECRET"), "line 3 is not TOML"),
            (format!("{good}{good}"), "two keys are called \"team\""),
            (
                format!("{good}{}", good.replace("team", "other")),
                "\"other\" is the same as another",
            ),
            ("SECRET = 1".to_owned(), "outside of the [[key]] sections"),
            ("[key]\nname = \"team\"".to_owned(), "two brackets"),
            ("key = [\"SECRET\"]".to_owned(), "number 1 is no section"),
            ("[[key]]\nkey = \"SECRET\"\nscopes = [\"infer\"]".to_owned(), "number 1 has no name"),
            (one("SECRET = 1"), "has a member other than name"),
            (one("scopes = [\"infer\"]"), "(\"team\") has to have either key or sha256"),
            (one("key = \"SECRET\"\nsha256 = \"SECRET\""), "either key or sha256"),
            (one("key = 17171717171717171717"), "TOML"),
            (one("key = 1717171717171717"), "has a `key` that is no text"),
            (one("key = \"short\"\nscopes = [\"infer\"]"), "is not of 16 to 1024 characters"),
            (one("key = \"SECRET \u{e9}\"\nscopes = [\"infer\"]"), "that no header can"),
            (one("sha256 = \"SECRET\"\nscopes = [\"infer\"]"), "64 hexadecimal digits"),
            (one("key = \"SECRET\""), "has to have scopes"),
            (one("key = \"SECRET\"\nscopes = []"), "has to have scopes"),
            (one("key = \"SECRET\"\nscopes = \"SECRET\""), "has to have scopes"),
            (one("key = \"SECRET\"\nscopes = [\"SECRET\"]"), "has to have scopes"),
        ];
        for (lines, part) in cases {
            let error = file(&lines).unwrap_err();
            assert!(error.contains(part), "{lines}: {error}");
            let tells = [SECRET, "short", "1717"].into_iter().any(|secret| error.contains(secret));
            assert!(!tells, "the error tells of a key: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
