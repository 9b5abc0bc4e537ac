"""TensorBoard's own classes, for what Lowbit writes.

    python3 tensorboard.py > tensorboard.txt
    python3 tensorboard.py DIR

Needs tensorboard (2.21 made the file), and not TensorFlow. The first prints messages as TensorBoard's classes
write them, in hexadecimal. The second reads the event files below a folder with TensorBoard's reader and prints
what it found, one JSON object a line: the run, the kind, the tag, the step and the value.
"""
import json
import os
import sys

# The folder of this script would hide the package of the same name.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]

from tensorboard.backend.event_processing import event_accumulator, event_multiplexer
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2


def events():
    """One event of each kind."""
    value = summary_pb2.Summary.Value
    histogram = summary_pb2.HistogramProto(
        min=-1, max=2, num=3, sum=1.5, sum_squares=5.25, bucket_limit=[-0.5, 0, 2.5], bucket=[1, 0, 2]
    )
    picture = summary_pb2.Summary.Image(height=2, width=3, colorspace=1, encoded_image_string=b"png")
    text = tensor_pb2.TensorProto(
        dtype=7,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)]),
        string_val=[b"a text"],
    )
    of_text = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text", content=b"x"), data_class=2
    )
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    yield event_pb2.Event(wall_time=1.5, file_version="brain.Event:2")
    yield event_pb2.Event(wall_time=1.5, step=7, session_log=start)
    for one in [
        value(tag="loss", simple_value=0.25),
        value(tag="weights", histo=histogram),
        value(tag="filters", image=picture),
        value(tag="config", metadata=of_text, tensor=text),
    ]:
        yield event_pb2.Event(wall_time=1.5, step=3, summary=summary_pb2.Summary(value=[one]))


def hparams():
    """One message of each kind of the plugin for hyperparameters."""
    data = plugin_data_pb2.HParamsPluginData
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=2.5)
    start.hparams["lr"].number_value = 0.1
    start.hparams["method"].string_value = "tqt"
    start.hparams["nesterov"].bool_value = False
    experiment = api_pb2.Experiment(
        hparam_infos=[api_pb2.HParamInfo(name="lr", type=3), api_pb2.HParamInfo(name="method", type=1)],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag="loss"))],
    )
    yield data(experiment=experiment)
    yield data(session_start_info=start)
    yield data(session_end_info=plugin_data_pb2.SessionEndInfo(status=1, end_time_secs=3.5))


def messages():
    print("# python3 tensorboard.py > tensorboard.txt")
    for kind, all_of_kind in [("event", events()), ("hparams", hparams())]:
        for message in all_of_kind:
            print(kind, message.SerializeToString(deterministic=True).hex())


def found(folder):
    """What TensorBoard's reader finds, run by run."""
    every = {kind: 0 for kind in event_accumulator.DEFAULT_SIZE_GUIDANCE}
    runs = event_multiplexer.EventMultiplexer(size_guidance=every).AddRunsFromDirectory(folder)
    runs.Reload()
    for run in sorted(runs.Runs()):
        of = runs.GetAccumulator(run)
        tags = of.Tags()
        for tag in tags["scalars"]:
            for event in of.Scalars(tag):
                yield run, "scalar", tag, event.step, event.value
        for tag in tags["histograms"]:
            for event in of.Histograms(tag):
                names = ["min", "max", "num", "sum", "sum_squares", "bucket_limit", "bucket"]
                counted = {name: getattr(event.histogram_value, name) for name in names}
                yield run, "histogram", tag, event.step, counted
        for tag in tags["images"]:
            for event in of.Images(tag):
                size = [event.width, event.height]
                yield run, "image", tag, event.step, [size, event.encoded_image_string.hex()]
        for tag in tags["tensors"]:
            plugin = of.SummaryMetadata(tag).plugin_data.plugin_name
            for event in of.Tensors(tag):
                yield run, plugin, tag, event.step, [text.decode() for text in event.tensor_proto.string_val]
        try:
            content = of.PluginTagToContent("hparams")
        except KeyError:
            content = {}
        for tag, message in content.items():
            data = plugin_data_pb2.HParamsPluginData.FromString(message)
            values = data.session_start_info.hparams
            named = {name: getattr(values[name], values[name].WhichOneof("kind")) for name in sorted(values)}
            yield run, "hparams", tag, 0, named


if __name__ == "__main__":
    if len(sys.argv) == 1:
        messages()
    else:
        for run, kind, tag, step, value in found(sys.argv[1]):
            print(json.dumps({"run": run, "kind": kind, "tag": tag, "step": step, "value": value}))
