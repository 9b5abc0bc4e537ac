//! Turning a quantizer on and off from outside, for a whole network at once.

use burn::module::{Flag, Module, ModuleMapper, Param};

/// Whether a quantizer quantizes.
///
/// Burn's flags mean training behaviour: `valid` and `freeze` clear every flag of a module and
/// `unfreeze` sets every one, so a single flag would lose quantization in validation. The switch
/// is therefore two flags that are off in only one of their four states, which none of those
/// operations produces.
#[derive(Module, Debug)]
pub struct Switch {
    enabled: Param<Flag>,
    bypassed: Param<Flag>,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            enabled: Param::from_bool(true),
            bypassed: Param::from_bool(false),
        }
    }
}

impl Switch {
    /// Whether the quantizer quantizes.
    pub fn is_on(&self) -> bool {
        // `train` gives the value that was set, also while validation hides it.
        let set = |flag: &Param<Flag>| flag.clone().train().is_enabled();
        set(&self.enabled) || !set(&self.bypassed)
    }
}

/// Sets the switches of every quantizer whose path `select` accepts.
struct SetSwitches<F> {
    path: Vec<String>,
    on: bool,
    select: F,
    changed: Vec<String>,
}

impl<F: FnMut(&str) -> bool> ModuleMapper for SetSwitches<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let [quantizer @ .., switch, field] = &self.path[..] else {
            return flag;
        };
        let on = match (switch.as_str(), field.as_str()) {
            ("switch", "enabled") => self.on,
            ("switch", "bypassed") => !self.on,
            _ => return flag,
        };
        let path = quantizer.join(".");
        if !(self.select)(&path) {
            return flag;
        }
        if field == "enabled" && flag.clone().train().is_enabled() != on {
            self.changed.push(path);
        }
        flag.with_value(on)
    }
}

/// Turns on or off every quantizer of `module` whose path `select` accepts, and returns the paths
/// of those that changed. A path is that of the module tree, such as
/// `conv1.quantizers.weight.TrainedThreshold`.
pub fn set_quantization<M: Module>(
    module: M,
    on: bool,
    select: impl FnMut(&str) -> bool,
) -> (M, Vec<String>) {
    let mut mapper = SetSwitches {
        path: Vec::new(),
        on,
        select,
        changed: Vec::new(),
    };
    let module = module.map(&mut mapper);
    (module, mapper.changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_freezing_and_unfreezing_leave_it_on() {
        let switch = Switch::default();
        assert!(switch.is_on());
        assert!(switch.valid().is_on());
        assert!(switch.clone().freeze().is_on());
        assert!(switch.clone().unfreeze().is_on());
        assert!(switch.valid().train().is_on());
    }

    #[derive(Module, Debug)]
    struct Holder {
        switch: Switch,
    }

    #[test]
    fn switched_off_stays_off_in_validation() {
        let holder = Holder {
            switch: Switch::default(),
        };
        let (off, changed) = set_quantization(holder, false, |_| true);
        assert_eq!(changed, [""]);
        assert!(!off.switch.is_on());
        assert!(!off.valid().switch.is_on());
        let (on, _) = set_quantization(off.valid(), true, |_| true);
        assert!(on.switch.is_on() && on.train().switch.is_on());
    }
}
