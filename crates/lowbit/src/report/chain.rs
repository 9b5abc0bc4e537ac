//! What a chain of widths came to, as tables and as a picture.

use std::path::Path;

use lowbit_formats::svg::{Anchor, COLORS, Panel, document, line, text};
use serde::Serialize;

use super::{Table, statistics};
use crate::Error;
use crate::files::write_atomic;
use crate::train::{ChainResults, Curve};

/// The accuracies of one curve at one width, over the seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChainPoint {
    /// The network.
    pub model: String,
    /// Bits of weights and activations.
    pub bits: u32,
    /// How it was taught.
    pub curve: Curve,
    /// The mean fraction of the test images that is right.
    pub mean: f64,
    /// The standard deviation over the seeds (of a sample: over their number less one); none of one
    /// seed.
    pub deviation: Option<f64>,
    /// By seed.
    pub accuracies: Vec<f64>,
}

/// Tables and a picture of a chain. None of them tells a time, so that a chain that was stopped and
/// went on has the very same.
#[derive(Debug, Clone, Serialize)]
pub struct ChainReport {
    /// What the chain came to.
    #[serde(flatten)]
    pub results: ChainResults,
    /// Its curves, by width, then by curve; what is not trained is left out.
    pub points: Vec<ChainPoint>,
}

/// What the curves are called.
fn heading(curve: Curve) -> &'static str {
    match curve {
        Curve::Alone => "alone",
        Curve::Direct => "from the first",
        Curve::Chain => "from the one before",
    }
}

impl ChainReport {
    /// The report on these results.
    pub fn new(results: ChainResults) -> Self {
        let steps = 0..results.bits.len();
        let places = steps.flat_map(|step| Curve::ALL.map(|curve| (step, curve)));
        let points = places.filter_map(|(step, curve)| point(&results, curve, step));
        let points = points.collect();
        Self { results, points }
    }

    fn at(&self, curve: Curve, step: usize) -> Option<&ChainPoint> {
        let (bits, model) = (
            self.results.bits[step],
            self.results.models[step].to_string(),
        );
        let mut points = self.points.iter();
        points.find(|point| (point.curve, point.bits) == (curve, bits) && point.model == model)
    }

    fn has_several_models(&self) -> bool {
        let models = &self.results.models;
        models.iter().any(|model| *model != models[0])
    }

    /// Data, method and network.
    fn name(&self) -> String {
        let (data, method) = (self.results.data, self.results.method);
        match self.has_several_models() {
            true => format!("{method} on {data}"),
            false => format!("{}, {method} on {data}", self.results.models[0]),
        }
    }

    /// A line for each width, a column for each curve.
    pub fn table(&self) -> Table {
        let several = self.has_several_models();
        let network = several.then_some("network");
        let headings = network.into_iter().chain(["bits"]);
        let headings = headings.chain(Curve::ALL.map(heading));
        let rows = (0..self.results.bits.len()).map(|step| {
            let model = several.then(|| self.results.models[step].to_string());
            let bits = self.results.bits[step].to_string();
            let cells = Curve::ALL.map(|curve| shown(self.at(curve, step)));
            let row = model.into_iter().chain([bits]).chain(cells);
            row.collect::<Vec<_>>()
        });
        let seeds = self.results.seeds.len();
        let seeds = match seeds {
            1 => String::new(),
            _ => format!(", mean and standard deviation of {seeds} seeds"),
        };
        let caption = format!(
            "{}: test accuracy of what held-out images chose{seeds}",
            self.name()
        );
        Table::new(headings).with_caption(caption).with_rows(rows)
    }

    /// A line for each width and curve: network, bits, curve, mean, deviation, and each seed's
    /// accuracy.
    pub fn csv(&self) -> String {
        let seeds = self
            .results
            .seeds
            .iter()
            .map(|seed| format!(",seed {seed}"));
        let seeds: String = seeds.collect();
        let mut csv = format!("model,bits,curve,mean,deviation{seeds}\n");
        for point in &self.points {
            let (model, bits, curve) = (&point.model, point.bits, point.curve.name());
            let deviation = point.deviation.map_or(String::new(), |d| format!("{d:.6}"));
            csv += &format!("{model},{bits},{curve},{:.6},{deviation}", point.mean);
            for accuracy in &point.accuracies {
                csv += &format!(",{accuracy:.6}");
            }
            csv.push('\n');
        }
        csv
    }

    /// Accuracy by width, a line for each curve, from the first network on, which has no teacher;
    /// bars are a standard deviation long to either side.
    pub fn svg(&self) -> String {
        let steps = self.results.bits.len();
        let panel = Panel {
            frame: [70.0, 50.0, 520.0, 300.0],
            x: (0.0, steps.max(2) as f64 - 1.0),
            y: (self.least(), 100.0),
        };
        let mut parts = self.axes(&panel);
        for (i, curve) in Curve::ALL.into_iter().enumerate() {
            let color = COLORS[i];
            let style = format!("stroke=\"{color}\" stroke-width=\"2\"");
            let points = (0..steps).filter_map(|step| {
                let taught = self.at(curve, step);
                let begins = || self.at(Curve::Alone, 0).filter(|_| step == 0);
                Some((step as f64, taught.or_else(begins)?))
            });
            let points: Vec<(f64, &ChainPoint)> = points.collect();
            let line_of = points.iter().map(|(x, point)| (*x, 100.0 * point.mean));
            parts += &panel.line(line_of, &style);
            for (x, point) in &points {
                parts += &mark(&panel, *x, point, color);
            }
            let y = 420.0 + 22.0 * i as f64;
            let key = [Some((70.0, y - 4.0)), Some((100.0, y - 4.0))].into_iter();
            parts += &line(key, &style);
            parts += &text((108.0, y), Anchor::Start, heading(curve));
        }
        document((620.0, 484.0), 13, &parts)
    }

    fn axes(&self, panel: &Panel) -> String {
        let several = self.has_several_models();
        let widths = self.results.bits.iter().zip(&self.results.models);
        let labels = widths.enumerate().map(|(step, (bits, model))| {
            let model = several.then(|| model.to_string());
            (
                step as f64,
                [Some(bits.to_string()), model]
                    .into_iter()
                    .flatten()
                    .collect(),
            )
        });
        let title = format!("Test accuracy in percent, {}", self.name());
        panel.axes_of_places(&title, "bits of weights and activations", labels)
    }

    /// Where the axis begins: at a ten, below all points and their bars.
    fn least(&self) -> f64 {
        let lows = self.points.iter();
        let lows = lows.map(|point| point.mean - point.deviation.unwrap_or(0.0));
        let least = lows.fold(1.0, f64::min);
        ((10.0 * least).floor() * 10.0).clamp(0.0, 90.0)
    }

    /// Writes `table.txt`, `table.csv`, `table.json` and `accuracy.svg` into a folder.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let json = serde_json::to_string_pretty(self).expect("a report holds names and numbers");
        for (name, text) in [
            ("table.txt", self.table().to_string()),
            ("table.csv", self.csv()),
            ("table.json", json + "\n"),
            ("accuracy.svg", self.svg()),
        ] {
            write_atomic(&folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

/// A point, and a deviation to either side.
fn mark(panel: &Panel, x: f64, point: &ChainPoint, color: &str) -> String {
    let (cx, cy) = panel.at(x, 100.0 * point.mean);
    let dot = format!("<circle cx=\"{cx:.2}\" cy=\"{cy:.2}\" r=\"3.5\" fill=\"{color}\"/>\n");
    let Some(deviation) = point.deviation else {
        return dot;
    };
    let ends = [point.mean - deviation, (point.mean + deviation).min(1.0)];
    let ends = ends.map(|end| (x, 100.0 * end));
    dot + &panel.line(ends.into_iter(), &format!("stroke=\"{color}\""))
}

fn point(results: &ChainResults, curve: Curve, step: usize) -> Option<ChainPoint> {
    let cells = results.at(curve, step);
    let accuracies: Vec<f64> = cells.iter().map(|cell| cell.accuracy).collect();
    if accuracies.is_empty() {
        return None;
    }
    Some(ChainPoint {
        model: results.models[step].to_string(),
        bits: results.bits[step],
        curve,
        mean: statistics::mean(&accuracies),
        deviation: statistics::deviation(&accuracies),
        accuracies,
    })
}

fn shown(point: Option<&ChainPoint>) -> String {
    let Some(point) = point else {
        return "-".into();
    };
    let mean = 100.0 * point.mean;
    match point.deviation {
        Some(deviation) => format!("{mean:.2} +- {:.2} %", 100.0 * deviation),
        None => format!("{mean:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Method;
    use crate::data::DataSet;
    use crate::train::CellResult;

    /// Two seeds of three widths. At 2 bits, accuracies alone are 0.5 and 0.7: mean 0.6, deviation
    /// sqrt(2 * 0.01 / 1) = 0.1414.
    fn report() -> ChainReport {
        let model = "cnn".parse().unwrap();
        let cell = |seed, bits, curve, accuracy| CellResult {
            model,
            bits,
            curve,
            seed,
            accuracy,
            held_out: accuracy,
            best_epoch: 1,
            folder: "a".into(),
        };
        let of = |seed: u64, less: f64| {
            [
                cell(seed, 32, Curve::Alone, 1.0 - less),
                cell(seed, 4, Curve::Alone, 0.9 - less),
                cell(seed, 2, Curve::Alone, 0.7 - less),
                cell(seed, 4, Curve::Direct, 0.95 - less),
                cell(seed, 2, Curve::Direct, 0.75 - less),
                cell(seed, 2, Curve::Chain, 0.8 - less),
            ]
        };
        ChainReport::new(ChainResults {
            data: DataSet::Digits,
            method: Method::DOREFA,
            bits: vec![32, 4, 2],
            models: vec![model; 3],
            seeds: vec![0, 1],
            cells: [of(0, 0.2), of(1, 0.0)].concat(),
        })
    }

    #[test]
    fn the_table_by_hand() {
        let expected = "\
cnn, dorefa on digits: test accuracy of what held-out images chose, mean and standard deviation of 2 seeds
bits             alone    from the first  from the one before
32    90.00 +- 14.14 %                 -                    -
4     80.00 +- 14.14 %  85.00 +- 14.14 %     85.00 +- 14.14 %
2     60.00 +- 14.14 %  65.00 +- 14.14 %     70.00 +- 14.14 %
";
        assert_eq!(report().table().to_string(), expected);
    }

    #[test]
    fn the_csv_by_hand() {
        let csv = report().csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "model,bits,curve,mean,deviation,seed 0,seed 1");
        assert_eq!(lines[1], "cnn,32,alone,0.900000,0.141421,0.800000,1.000000");
        assert_eq!(lines[4], "cnn,4,chain,0.850000,0.141421,0.750000,0.950000");
        assert_eq!(lines.len(), 1 + 1 + 3 + 3);
    }

    /// The axis goes from 40, the ten below 60 - 14.14, to 100, over 300 pixels from 350 up: 60 is
    /// at 250. The last of three widths is at the right edge, 590.
    #[test]
    fn points_lie_where_they_are_by_hand() {
        let svg = report().svg();
        assert!(svg.contains("cx=\"590.00\" cy=\"250.00\""), "{svg}");
        assert!(svg.contains("<path d=\"M70.00 100.00L330.00 150.00L590.00 250.00\""));
        assert!(svg.contains("from the one before"));
    }
}
