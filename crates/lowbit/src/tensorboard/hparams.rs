//! Hyperparameters of runs, which TensorBoard puts side by side.

use prost::Message;

use super::proto::{
    Experiment, HParamInfo, HParamsData, HParamsPluginData, Hyperparameter, HyperparameterKind,
    MetricInfo, MetricName, PluginData, STATUS_SUCCESS, SessionEndInfo, SessionStartInfo,
    SummaryMetadata,
};

/// A hyperparameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Hparam {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// Yes or no.
    Bool(bool),
}

impl Hparam {
    /// `hparams.DataType`.
    fn data_type(&self) -> i32 {
        match self {
            Self::Text(_) => 1,
            Self::Bool(_) => 2,
            Self::Number(_) => 3,
        }
    }

    fn message(&self) -> Hyperparameter {
        let kind = match self {
            Self::Number(number) => HyperparameterKind::Number(*number),
            Self::Text(text) => HyperparameterKind::Text(text.clone()),
            Self::Bool(yes) => HyperparameterKind::Bool(*yes),
        };
        Hyperparameter { kind: Some(kind) }
    }
}

/// What says which hyperparameters and metrics there are, and those of a run that starts at `now`
/// seconds since 1970, by the tags that TensorBoard looks for.
pub(super) fn start(
    hparams: &[(String, Hparam)],
    metrics: &[&str],
    now: f64,
) -> [(&'static str, HParamsData); 2] {
    let hparam_infos = hparams.iter().map(|(name, value)| HParamInfo {
        name: name.clone(),
        data_type: value.data_type(),
    });
    let metric_infos = metrics.iter().map(|&tag| MetricInfo {
        name: Some(MetricName { tag: tag.into() }),
    });
    let experiment = Experiment {
        hparam_infos: hparam_infos.collect(),
        metric_infos: metric_infos.collect(),
    };
    let values = hparams.iter();
    let values = values.map(|(name, value)| (name.clone(), value.message()));
    let start = SessionStartInfo {
        hparams: values.collect(),
        start_time_secs: now,
    };
    [
        ("_hparams_/experiment", HParamsData::Experiment(experiment)),
        (
            "_hparams_/session_start_info",
            HParamsData::SessionStart(start),
        ),
    ]
}

/// What says that the run has ended well.
pub(super) fn end(now: f64) -> (&'static str, HParamsData) {
    let end = SessionEndInfo {
        status: STATUS_SUCCESS,
        end_time_secs: now,
    };
    ("_hparams_/session_end_info", HParamsData::SessionEnd(end))
}

/// The message as what goes with a value that is none itself.
pub(super) fn metadata(data: HParamsData) -> SummaryMetadata {
    let message = HParamsPluginData {
        version: 0,
        data: Some(data),
    };
    SummaryMetadata {
        plugin_data: Some(PluginData {
            plugin_name: "hparams".into(),
            content: message.encode_to_vec(),
        }),
        data_class: 0,
    }
}
