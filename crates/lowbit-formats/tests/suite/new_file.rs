//! Files that are written: whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use lowbit_formats::new_file::{NewFile, is_temporary, remove_unfinished, write};

use crate::folder::Folder;

/// One test, since the list of unfinished files is the process's.
#[test]
fn unfinished_files_leave_nothing() {
    let folder = Folder::new("unfinished");
    let path = folder.file("x");
    let mut dropped = NewFile::create(&path).unwrap();
    dropped.write_all(b"half").unwrap();
    let names = folder.names();
    assert!(matches!(&names[..], [only] if is_temporary(only.as_ref())));
    drop(dropped);
    assert!(folder.names().is_empty());

    // What a killed process with this one's number left is neither used nor in the way.
    for number in 0..50 {
        let name = format!(".lowbit-{}-{number}.part", std::process::id());
        fs::write(folder.file(&name), "stale").unwrap();
    }
    write(&path, b"whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(folder.names().len(), 51);

    // Two at a time do not meet.
    let (mut first, mut second) = (
        NewFile::create(&path).unwrap(),
        NewFile::create(&path).unwrap(),
    );
    first.write_all(b"first").unwrap();
    second.write_all(b"second").unwrap();
    second.finish().unwrap();
    first.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(folder.names().len(), 51);

    let unfinished = NewFile::create(&folder.file("y")).unwrap();
    drop(remove_unfinished());
    assert_eq!(folder.names().len(), 51);
    assert!(unfinished.finish().is_err());
    assert_eq!(folder.names().len(), 51);
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let folder = Folder::new("replaced");
    assert!(write(&folder.0, b"x").is_err());
    assert!(write(&folder.file("none/"), b"x").is_err());
    assert!(write(&folder.file("none/x"), b"x").is_err());
    assert!(write(Path::new(""), b"x").is_err());
    assert!(folder.names().is_empty());
}
