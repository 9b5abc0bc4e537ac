//! The plan that settings describe.

use super::defaults;
use super::options::{Decides, Settings};
use crate::Error;
use crate::config::{FLOAT_BITS, LowPrecisionPlan, Method, QPlan, TqtPlan};
use crate::optim::OptimizerNumbers;
use crate::quantizers::{DorefaConfig, QuantizerConfig, Slot, TrainedThresholdConfig};

impl Settings {
    /// The name and the plan of the method, with the widths that were given.
    ///
    /// # Errors
    /// If a width is out of the method's range, or an option is of another method.
    pub(super) fn method_plan(&self) -> Result<(String, QPlan), Error> {
        let method = self.method.unwrap_or(defaults::METHOD);
        if method.weight_bits().is_none() {
            self.check_float(method)?;
            return Ok(match self.formats() {
                plan if plan == QPlan::float() => (method.to_string(), plan),
                plan => ("low-precision".into(), plan),
            });
        }
        let of_float = ["activation_format", "sums"];
        if let Some(field) = self.first(|option| of_float.contains(&option.name)) {
            let message = format!("the method is {method}, expected {}", Method::FLOAT);
            return Err(Error::config(field, message));
        }
        let [wbits, abits] = method.widths(self.wbits, self.abits)?;
        let plan = if method == Method::TQT {
            method.check_width("bbits", self.bbits, &TrainedThresholdConfig::BITS)?;
            self.tqt((wbits, abits), |plan| TqtPlan {
                weight_init: self.weight_init.unwrap_or(plan.weight_init),
                activation_init: self.init.unwrap_or(plan.activation_init),
                ..plan
            })
        } else if let Some(field) = self.of_tqt_alone() {
            let message = format!("the method is {method}, expected tqt");
            return Err(Error::config(field, message));
        } else {
            self.laid_out(method.plan(wbits, abits))
        };
        let name = format!("{method}-w{wbits}a{abits}");
        match (self.gbits, &self.error_format) {
            (Some(_), Some(_)) => {
                let message = "the errors have gbits, expected one of the two";
                Err(Error::config("error_format", message))
            }
            (Some(bits), None) => Ok((
                format!("{name}g{bits}"),
                with_gradients(plan, method, bits)?,
            )),
            (None, Some(error)) => {
                let text = error.to_string();
                let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
                Ok((format!("{name}-{letters}"), plan.with_errors(error)))
            }
            (None, None) => Ok((name, plan)),
        }
    }

    /// The formats of what the optimizer reads, keeps and writes.
    pub(super) fn numbers(&self) -> OptimizerNumbers {
        let all = self.numbers.clone().unwrap_or_default();
        OptimizerNumbers {
            weight: self.weight_format.clone().or(all.weight),
            gradient: self.gradient_format.clone().or(all.gradient),
            momentum: self.momentum_format.clone().or(all.momentum),
            second_moment: self.second_moment_format.clone().or(all.second_moment),
            accumulator: self.accumulator_format.clone().or(all.accumulator),
            ..all
        }
    }

    /// What layers with a weight compute in.
    fn formats(&self) -> QPlan {
        let plan = LowPrecisionPlan {
            activation: self.activation_format.clone(),
            error: self.error_format.clone(),
            sums: self.sums.clone(),
        };
        plan.plan()
    }

    /// The plan of TQT with bits of weights and activations, changed by `with` before the layers'
    /// own widths and folding are added.
    pub(super) fn tqt(&self, bits: (u32, u32), with: impl FnOnce(TqtPlan) -> TqtPlan) -> QPlan {
        let plan = TqtPlan::new(bits.0, bits.1).all_tensors();
        let plan = TqtPlan {
            bias_bits: self.bbits.unwrap_or(defaults::BIAS_BITS),
            per_channel: self.per_channel.unwrap_or(false),
            ..plan
        };
        self.laid_out(with(plan).plan())
    }

    /// A plan with folding and with widths by layer.
    fn laid_out(&self, plan: QPlan) -> QPlan {
        let widths = self.widths.clone().unwrap_or_default();
        QPlan {
            fold: self.fold.unwrap_or_default(),
            widths: widths.widths(),
            layer_widths: widths.layers,
            ..plan
        }
    }

    /// The first option that is set and that TQT alone has.
    fn of_tqt_alone(&self) -> Option<&'static str> {
        const OF_TQT: [&str; 4] = ["bbits", "init", "weight_init", "per_channel"];
        self.first(|option| OF_TQT.contains(&option.name))
    }

    /// Whether nothing is said that a method which quantizes nothing cannot do.
    fn check_float(&self, method: Method) -> Result<(), Error> {
        for (field, given) in [("wbits", self.wbits), ("abits", self.abits)] {
            if given.is_some_and(|bits| bits != FLOAT_BITS) {
                let message = format!("the method is {method}, which has no widths");
                return Err(Error::config(field, message));
            }
        }
        let harmless = |name: &str| match name {
            "method" | "wbits" | "abits" | "activation_format" | "error_format" | "sums" => true,
            "fold" => self.fold.is_some_and(|fold| fold.is_off()),
            _ => false,
        };
        let said = |d: Decides, name: &str| d == Decides::Quantization && !harmless(name);
        match self.first(|option| said(option.decides, option.name)) {
            None => Ok(()),
            Some(field) => {
                let message = format!("the method is {method}, which quantizes nothing");
                Err(Error::config(field, message))
            }
        }
    }
}

/// DoReFa-Net's plan with gradients of so many bits.
fn with_gradients(mut plan: QPlan, method: Method, bits: u32) -> Result<QPlan, Error> {
    if method != Method::DOREFA {
        let message = format!("the method is {method}, expected {}", Method::DOREFA);
        return Err(Error::config("gbits", message));
    }
    method.check_width("gbits", Some(bits), &DorefaConfig::ACTIVATION_BITS)?;
    if bits < FLOAT_BITS {
        let quantizer = QuantizerConfig::DorefaGradient(DorefaConfig { bits });
        plan.default.set(Slot::ERROR, quantizer);
    }
    Ok(plan)
}
