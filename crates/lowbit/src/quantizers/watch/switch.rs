//! Turning a quantizer on and off from outside, for a whole network at once.

use burn::module::{Flag, Module, ModuleMapper, Param, ParamId};

use crate::quantizers::watch::{ModulePath, Place};

/// Whether a quantizer quantizes.
///
/// Burn's flags mean training behaviour: `valid` and `freeze` clear every flag of a module and
/// `unfreeze` sets every one, so a single flag would lose quantization in validation. The switch
/// is therefore two flags that are off in only one of their four states, which none of those
/// operations produces: `valid` and `train` keep a switch as it is, `freeze` and `unfreeze` leave
/// it on (also one that was off).
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
    /// What tells this switch from all others.
    pub(crate) fn id(&self) -> ParamId {
        self.enabled.id
    }

    /// Whether the quantizer quantizes.
    pub fn is_on(&self) -> bool {
        // `train` gives the value that was set, also while validation hides it.
        let set = |flag: &Param<Flag>| flag.clone().train().is_enabled();
        set(&self.enabled) || !set(&self.bypassed)
    }
}

/// Sets the switches of every quantizer that `select` accepts.
struct SetSwitches<F> {
    path: ModulePath,
    on: bool,
    select: F,
    changed: Vec<String>,
}

impl<F: FnMut(&Place) -> bool> ModuleMapper for SetSwitches<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let on = match (self.path.holder_type(), self.path.field()) {
            ("Switch", "enabled") => self.on,
            ("Switch", "bypassed") => !self.on,
            _ => return flag,
        };
        let Some(place) = self.path.place().filter(|place| (self.select)(place)) else {
            return flag;
        };
        if self.path.field() == "enabled" && flag.clone().train().is_enabled() != on {
            self.changed.push(place.to_string());
        }
        flag.with_value(on)
    }
}

/// Turns on or off every quantizer of `module` that `select` accepts, and returns the paths of
/// those that changed, such as `conv1.weight`.
pub fn set_quantization<M: Module>(
    module: M,
    on: bool,
    select: impl FnMut(&Place) -> bool,
) -> (M, Vec<String>) {
    let mut mapper = SetSwitches {
        path: ModulePath::default(),
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
    struct Quantizer {
        switch: Switch,
    }

    #[derive(Module, Debug)]
    struct Slots {
        weight: Quantizer,
    }

    #[derive(Module, Debug)]
    struct Layer {
        quantizers: Slots,
    }

    impl Layer {
        fn is_on(&self) -> bool {
            self.quantizers.weight.switch.is_on()
        }
    }

    #[test]
    fn switched_off_stays_off_in_validation() {
        let layer = Layer {
            quantizers: Slots {
                weight: Quantizer {
                    switch: Switch::default(),
                },
            },
        };
        let (off, changed) = set_quantization(layer, false, |_| true);
        assert_eq!(changed, ["weight"]);
        assert!(!off.is_on());
        assert!(!off.valid().is_on());
        let (on, _) = set_quantization(off.valid(), true, |_| true);
        assert!(on.is_on() && on.train().is_on());
    }
}
