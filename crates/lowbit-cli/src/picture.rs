//! Pictures and other files that commands write.

use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use lowbit::report::{Figure, NamedTable};
use lowbit_formats::new_file;

use crate::output::Unwritten;

/// Writes an SVG file. A name that ends as those of other files do is refused; `/dev/stdout` and
/// the like have no ending.
pub(crate) fn write_svg(path: &Path, picture: &str) -> Result<(), Box<dyn Error>> {
    check_ending(path, "svg", "the picture is an SVG file")?;
    write_text(path, picture)
}

/// Writes an HTML file, as [`write_svg`] does a picture.
pub(crate) fn write_page(path: &Path, page: &str) -> Result<(), Box<dyn Error>> {
    check_ending(path, "html", "the page is an HTML file")?;
    write_text(path, page)
}

fn check_ending(path: &Path, expected: &str, reason: &str) -> Result<(), Box<dyn Error>> {
    let shown = path.display();
    if let Some(ending) = path.extension()
        && !ending.eq_ignore_ascii_case(expected)
    {
        let ending = ending.display();
        return Err(
            format!("{shown}: expected the ending .{expected}, not .{ending}: {reason}").into(),
        );
    }
    Ok(())
}

/// Writes a file whole or not at all.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    new_file::write(path, text.as_bytes()).map_err(|error| -> Box<dyn Error> {
        match error.kind() {
            ErrorKind::BrokenPipe => Unwritten::from(error).into(),
            _ => format!("{}: {error}", path.display()).into(),
        }
    })
}

/// Writes every picture and every table into a folder, which is made where there is none.
pub(crate) fn write_assets(
    dir: &Path,
    figures: &[Figure],
    tables: &[NamedTable],
) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for figure in figures {
        write_svg(&dir.join(format!("{}.svg", figure.name)), &figure.svg)?;
    }
    for table in tables {
        write_text(&dir.join(format!("{}.csv", table.name)), &table.table.csv())?;
    }
    Ok(())
}
