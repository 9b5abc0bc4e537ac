//! Event files, written event by event.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::histogram::{Counted, histogram};
use super::hparams::{self, Hparam};
use super::proto::{
    Content, DATA_CLASS_TENSOR, DT_STRING, Dim, Event, Image, PluginData, SESSION_START,
    SessionLog, Summary, SummaryMetadata, TensorProto, TensorShapeProto, Value, What,
};
use super::record;
use crate::Error;
use crate::host::host;
use crate::png::png;

/// The first event of every file.
const VERSION: &str = "brain.Event:2";

/// Writes an event file of TensorBoard, `events.out.tfevents.<seconds>.<host>`, in a folder of its own
/// for each run. `step` is what TensorBoard draws values over.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lowbit::tensorboard::EventWriter;
///
/// let folder = tempfile::tempdir()?;
/// let mut writer = EventWriter::create(folder.path())?;
/// for step in 1..=3 {
///     writer.scalar("loss", step, 1.0 / step as f32)?;
/// }
/// writer.histogram("weights", 3, &[0.5, -0.25, 0.125])?;
/// writer.flush()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EventWriter {
    file: BufWriter<File>,
    path: PathBuf,
}

impl EventWriter {
    /// A new file in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If the folder or the file cannot be made.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let (file, path) = new_file(folder)?;
        let mut writer = Self {
            file: BufWriter::new(file),
            path,
        };
        writer.write(0, What::FileVersion(VERSION.into()))?;
        Ok(writer)
    }

    /// A new file that goes on where a run was after `step`: what older files say of later steps is
    /// dropped by TensorBoard.
    ///
    /// # Errors
    /// If the folder or the file cannot be made.
    pub fn resume(folder: &Path, step: u64) -> Result<Self, Error> {
        let mut writer = Self::create(folder)?;
        let status = SESSION_START;
        writer.write(step + 1, What::SessionLog(SessionLog { status }))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32) -> Result<(), Error> {
        self.value(tag, step, None, Some(Content::Scalar(value)))
    }

    /// The distribution of numbers; those that are NaN or infinite are not counted.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f32]) -> Result<(), Error> {
        let counted = Content::Histogram(histogram(values));
        self.value(tag, step, None, Some(counted))
    }

    /// The distribution of numbers that were counted before.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn counted(&mut self, tag: &str, step: u64, counted: &Counted) -> Result<(), Error> {
        self.value(tag, step, None, Some(Content::Histogram(counted.into())))
    }

    /// A picture of `width` by `height` pixels from 0 to 255, row by row, each of one channel or of
    /// three.
    ///
    /// # Errors
    /// If there are not so many pixels, or it cannot be written.
    pub fn image(
        &mut self,
        tag: &str,
        step: u64,
        [width, height]: [usize; 2],
        pixels: &[u8],
    ) -> Result<(), Error> {
        let channels = pixels.len() / (width * height).max(1);
        if ![1, 3].contains(&channels) || pixels.len() != channels * width * height {
            let message = format!(
                "has {} numbers, expected {width} by {height} pixels of one or three",
                pixels.len()
            );
            return Err(Error::config(tag, message));
        }
        let image = Image {
            height: height as i32,
            width: width as i32,
            colorspace: channels as i32,
            encoded_image_string: png([width, height], channels, pixels),
        };
        self.value(tag, step, None, Some(Content::Image(image)))
    }

    /// A text, in which Markdown is shown as such.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<(), Error> {
        let tensor = TensorProto {
            dtype: DT_STRING,
            tensor_shape: Some(TensorShapeProto {
                dim: vec![Dim { size: 1 }],
            }),
            string_val: vec![text.as_bytes().to_vec()],
        };
        let metadata = SummaryMetadata {
            plugin_data: Some(PluginData {
                plugin_name: "text".into(),
                content: Vec::new(),
            }),
            data_class: DATA_CLASS_TENSOR,
        };
        self.value(tag, step, Some(metadata), Some(Content::Tensor(tensor)))
    }

    /// The hyperparameters of the run, and the tags of the scalars that it is judged by.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn hparams(&mut self, hparams: &[(String, Hparam)], metrics: &[&str]) -> Result<(), Error> {
        for (tag, data) in hparams::start(hparams, metrics, now()) {
            self.value(tag, 0, Some(hparams::metadata(data)), None)?;
        }
        Ok(())
    }

    /// That the run of those hyperparameters has ended well.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn hparams_ended(&mut self) -> Result<(), Error> {
        let (tag, data) = hparams::end(now());
        self.value(tag, 0, Some(hparams::metadata(data)), None)
    }

    /// Hands everything to the operating system, so that TensorBoard sees it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(Error::io(&self.path))
    }

    fn value(
        &mut self,
        tag: &str,
        step: u64,
        metadata: Option<SummaryMetadata>,
        content: Option<Content>,
    ) -> Result<(), Error> {
        let value = Value {
            tag: tag.into(),
            metadata,
            content,
        };
        let value = vec![value];
        self.write(step, What::Summary(Summary { value }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<(), Error> {
        let event = Event {
            wall_time: now(),
            step: step as i64,
            what: Some(what),
        };
        let bytes = event.encode_to_vec();
        record::write(&mut self.file, &bytes).map_err(Error::io(&self.path))
    }
}

/// A file that was not there, later in the order of names than those that were: TensorBoard reads them in
/// that order.
fn new_file(folder: &Path) -> Result<(File, PathBuf), Error> {
    let mut seconds = now() as u64;
    let host = host().unwrap_or("host".into());
    loop {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.{host}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => seconds += 1,
            Err(error) => return Err(Error::io(&path)(error)),
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensorboard::reader::events;

    fn tags(event: &Event) -> Vec<(String, Option<Content>)> {
        match &event.what {
            Some(What::Summary(summary)) => {
                let values = summary.value.iter();
                values.map(|v| (v.tag.clone(), v.content.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(&folder.path().join("new/run")).unwrap();
        writer.scalar("loss", 3, 0.5).unwrap();
        writer.histogram("weights", 4, &[1.0, -2.0]).unwrap();
        writer.image("filters", 5, [2, 1], &[0, 255]).unwrap();
        writer.text("config", 6, "a = 1").unwrap();
        let hparams = [("lr".to_string(), Hparam::Number(0.1))];
        writer.hparams(&hparams, &["loss"]).unwrap();
        writer.flush().unwrap();
        let read = events(writer.path());
        assert_eq!(read[0].what, Some(What::FileVersion(VERSION.into())));
        let steps: Vec<i64> = read.iter().map(|event| event.step).collect();
        assert_eq!(steps, [0, 3, 4, 5, 6, 0, 0]);
        let all: Vec<_> = read.iter().flat_map(tags).collect();
        assert_eq!(all[0], ("loss".into(), Some(Content::Scalar(0.5))));
        let Some(Content::Histogram(counted)) = &all[1].1 else {
            panic!("no histogram")
        };
        assert_eq!((counted.num, counted.min, counted.max), (2.0, -2.0, 1.0));
        let Some(Content::Image(image)) = &all[2].1 else {
            panic!("no image")
        };
        assert_eq!((image.width, image.height, image.colorspace), (2, 1, 1));
        assert!(matches!(&all[3].1, Some(Content::Tensor(text)) if text.string_val == [b"a = 1"]));
        assert_eq!(all[4].0, "_hparams_/experiment");
        assert_eq!(all[5].0, "_hparams_/session_start_info");
    }

    /// A second file begins by dropping what the first says of steps after the fourth.
    #[test]
    fn a_run_that_goes_on_has_a_second_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create(folder.path()).unwrap();
        let second = EventWriter::resume(folder.path(), 4).unwrap();
        assert!(first.path() < second.path());
        let log = &events(second.path())[1];
        let status = SESSION_START;
        assert_eq!(log.step, 5);
        assert_eq!(log.what, Some(What::SessionLog(SessionLog { status })));
    }

    #[test]
    fn pixels_that_are_no_picture_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        let error = writer.image("a", 0, [2, 2], &[0; 8]).unwrap_err();
        let expected = "a: has 8 numbers, expected 2 by 2 pixels of one or three";
        assert_eq!(error.to_string(), expected);
    }
}
