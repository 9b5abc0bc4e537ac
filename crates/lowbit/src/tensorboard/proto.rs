//! The messages of event files, with the field numbers of their published schemas: TensorFlow's
//! `event.proto`, `summary.proto`, `tensor.proto` and `tensor_shape.proto`
//! (<https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core>), TensorBoard's
//! `plugins/hparams/plugin_data.proto` and `api.proto` (<https://github.com/tensorflow/tensorboard>) and
//! protobuf's `struct.proto`. Fields that are not listed are skipped when a file is read.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

/// `SessionLog.SessionStatus.START`.
pub(crate) const SESSION_START: i32 = 1;

/// `DataType.DT_STRING`.
pub(crate) const DT_STRING: i32 = 7;

/// `DataClass.DATA_CLASS_TENSOR`.
pub(crate) const DATA_CLASS_TENSOR: i32 = 2;

/// `hparams.Status.STATUS_SUCCESS`.
pub(crate) const STATUS_SUCCESS: i32 = 1;

/// A record of an event file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The step.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// What it holds.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// What an event holds.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum What {
    /// `brain.Event:2`, the first of a file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Values.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// Where training begins or goes on.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Where training begins or goes on.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionLog {
    /// [`SESSION_START`].
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// Values of a step.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Summary {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// A value.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    /// Its name; slashes make groups.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// Which plugin shows it.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<SummaryMetadata>,
    /// The value itself.
    #[prost(oneof = "Content", tags = "2, 4, 5, 8")]
    pub content: Option<Content>,
}

/// A value itself.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Content {
    /// A number.
    #[prost(float, tag = "2")]
    Scalar(f32),
    /// A picture.
    #[prost(message, tag = "4")]
    Image(Image),
    /// Counts of numbers.
    #[prost(message, tag = "5")]
    Histogram(HistogramProto),
    /// A tensor.
    #[prost(message, tag = "8")]
    Tensor(TensorProto),
}

/// Which plugin shows a value.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SummaryMetadata {
    /// The plugin.
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
    /// [`DATA_CLASS_TENSOR`], or 0 where it is not said.
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

/// A plugin and what it is told.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PluginData {
    /// `text` or `hparams`.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    /// A message of the plugin's own.
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
}

/// A picture.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Image {
    /// Rows.
    #[prost(int32, tag = "1")]
    pub height: i32,
    /// Columns.
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// Channels: 1 grey, 3 red, green and blue.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    /// A PNG file.
    #[prost(bytes = "vec", tag = "4")]
    pub encoded_image_string: Vec<u8>,
}

/// Counts of numbers.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistogramProto {
    /// The least.
    #[prost(double, tag = "1")]
    pub min: f64,
    /// The greatest.
    #[prost(double, tag = "2")]
    pub max: f64,
    /// How many.
    #[prost(double, tag = "3")]
    pub num: f64,
    /// Their sum.
    #[prost(double, tag = "4")]
    pub sum: f64,
    /// The sum of their squares.
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// The upper end of each bucket; it begins where the one before ends.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    /// How many lie in each.
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

/// A tensor of texts.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    /// [`DT_STRING`].
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// Its shape.
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<TensorShapeProto>,
    /// The texts.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub string_val: Vec<Vec<u8>>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorShapeProto {
    /// The dimensions.
    #[prost(message, repeated, tag = "2")]
    pub dim: Vec<Dim>,
}

/// A dimension.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dim {
    /// How long it is.
    #[prost(int64, tag = "1")]
    pub size: i64,
}

/// What the plugin for hyperparameters is told.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HParamsPluginData {
    /// 0.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// What it is.
    #[prost(oneof = "HParamsData", tags = "2, 3, 4")]
    pub data: Option<HParamsData>,
}

/// What the plugin for hyperparameters is told.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum HParamsData {
    /// Which hyperparameters and metrics there are.
    #[prost(message, tag = "2")]
    Experiment(Experiment),
    /// The hyperparameters of a run.
    #[prost(message, tag = "3")]
    SessionStart(SessionStartInfo),
    /// That a run has ended.
    #[prost(message, tag = "4")]
    SessionEnd(SessionEndInfo),
}

/// Which hyperparameters and metrics there are.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Experiment {
    /// The hyperparameters.
    #[prost(message, repeated, tag = "4")]
    pub hparam_infos: Vec<HParamInfo>,
    /// The metrics.
    #[prost(message, repeated, tag = "5")]
    pub metric_infos: Vec<MetricInfo>,
}

/// A hyperparameter.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HParamInfo {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// 1 a text, 2 yes or no, 3 a number.
    #[prost(int32, tag = "4")]
    pub data_type: i32,
}

/// A metric.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricInfo {
    /// Its name.
    #[prost(message, optional, tag = "1")]
    pub name: Option<MetricName>,
}

/// The name of a metric.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricName {
    /// The tag of its scalars.
    #[prost(string, tag = "2")]
    pub tag: String,
}

/// The hyperparameters of a run.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionStartInfo {
    /// Them.
    #[prost(btree_map = "string, message", tag = "1")]
    pub hparams: BTreeMap<String, Hyperparameter>,
    /// Seconds since 1970.
    #[prost(double, tag = "5")]
    pub start_time_secs: f64,
}

/// That a run has ended.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionEndInfo {
    /// [`STATUS_SUCCESS`].
    #[prost(int32, tag = "1")]
    pub status: i32,
    /// Seconds since 1970.
    #[prost(double, tag = "2")]
    pub end_time_secs: f64,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hyperparameter {
    /// What it is.
    #[prost(oneof = "HyperparameterKind", tags = "2, 3, 4")]
    pub kind: Option<HyperparameterKind>,
}

/// What a hyperparameter is.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum HyperparameterKind {
    /// A number.
    #[prost(double, tag = "2")]
    Number(f64),
    /// A text.
    #[prost(string, tag = "3")]
    Text(String),
    /// Yes or no.
    #[prost(bool, tag = "4")]
    Bool(bool),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that TensorBoard's own classes wrote (`tests/reference/tensorboard.py`): what is read of them
    /// is written with the same bytes, so that no field is unknown or has another number.
    #[test]
    fn messages_are_those_of_tensorboard() {
        let lines = include_str!("../../tests/reference/tensorboard.txt").lines();
        let mut read = 0;
        for line in lines.filter(|line| !line.starts_with('#')) {
            let (kind, hex) = line.split_once(' ').unwrap();
            let digits = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len() / 2).map(digits).collect();
            let written = match kind {
                "event" => Event::decode(&bytes[..]).unwrap().encode_to_vec(),
                "hparams" => HParamsPluginData::decode(&bytes[..])
                    .unwrap()
                    .encode_to_vec(),
                other => panic!("{other}"),
            };
            assert_eq!(written, bytes, "{line}");
            read += 1;
        }
        assert_eq!(read, 9);
    }
}
