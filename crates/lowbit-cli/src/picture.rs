//! Pictures that commands draw.

use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use lowbit_formats::new_file;

use crate::output::Unwritten;

/// Writes an SVG file. A name that ends as those of other files do is refused; `/dev/stdout` and
/// the like have no ending.
pub(crate) fn write_svg(path: &Path, picture: &str) -> Result<(), Box<dyn Error>> {
    let shown = path.display();
    if let Some(ending) = path.extension()
        && !ending.eq_ignore_ascii_case("svg")
    {
        let ending = ending.display();
        return Err(format!(
            "{shown}: expected the ending .svg, not .{ending}: the picture is an SVG file"
        )
        .into());
    }
    new_file::write(path, picture.as_bytes()).map_err(|error| -> Box<dyn Error> {
        match error.kind() {
            ErrorKind::BrokenPipe => Unwritten::from(error).into(),
            _ => format!("{shown}: {error}").into(),
        }
    })
}
