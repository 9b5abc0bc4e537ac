//! Taps: seeing the tensors that pass through a network's layers.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::module::{Flag, Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use crate::ops::{GradientSink, Mark, Operand, mark, watch_gradient};
use crate::quantizers::watch::{ModulePath, Place, Selection};

/// A tensor of a layer, as it passed by.
#[derive(Debug, Clone, PartialEq)]
pub struct Tapped {
    /// The layer's path, type and the slot: `input` and `weight`, `bias` as the layer gets them,
    /// before they are quantized, and `output` as it hands it on.
    pub place: Place,
    /// Shape and values.
    pub tensor: TensorData,
    /// The same as the layer's operator reads it, quantized; of an `output`, the tensor itself.
    pub read: TensorData,
    /// The gradient of the loss with respect to it, where that was asked for and a backward pass
    /// has reached it.
    pub gradient: Option<TensorData>,
}

impl Tapped {
    /// The tensor's path, such as `conv1.output`.
    pub fn path(&self) -> String {
        self.place.to_string()
    }
}

/// By the layer's own identity: its path and type.
type FoundLayers = BTreeMap<ParamId, (String, String)>;

/// What is tapped on this thread, and what was seen.
struct Attached {
    layers: FoundLayers,
    selection: Selection,
    gradients: Option<GradientSink>,
    seen: Vec<Tapped>,
}

impl Attached {
    /// Whether the last tensor seen was the one in that slot of the layer `id`.
    fn saw_last(&self, id: ParamId, slot: &str) -> bool {
        let layer = self.layers.get(&id).map(|(layer, _)| layer);
        self.seen
            .last()
            .is_some_and(|seen| Some(&seen.place.layer) == layer && seen.place.slot == slot)
    }
}

thread_local! {
    static TAPS: RefCell<Option<Attached>> = const { RefCell::new(None) };
    /// The layers whose tensors are marked for a recording.
    static MARKS: RefCell<Option<FoundLayers>> = const { RefCell::new(None) };
}

/// Runs `forward`, in which every tensor that passes through a slot of a layer of `model` is marked with
/// its place.
pub(crate) fn marked<M: Module, R>(model: &M, forward: impl FnOnce() -> R) -> R {
    struct Unmark;
    impl Drop for Unmark {
        fn drop(&mut self) {
            MARKS.set(None);
        }
    }
    let mut find = FindLayers::default();
    model.visit(&mut find);
    MARKS.set(Some(find.layers));
    let _unmark = Unmark;
    forward()
}

/// Taps on the layers of a network, for what runs on this thread until they are detached or
/// dropped. The network is not touched: a layer asks whether somebody listens.
#[derive(Debug)]
pub struct Taps {
    gradients: Option<GradientSink>,
    /// Thread-local: it must not leave its thread.
    _here: std::marker::PhantomData<*const ()>,
}

impl Taps {
    /// Attaches taps to the tensors of `model` that `selection` accepts, such as the `output` of
    /// every `Conv2d`; all slots of all layers, where it says nothing. Taps that were attached
    /// before on this thread are detached.
    pub fn attach<M: Module>(model: &M, selection: Selection) -> Self {
        Self::attach_to(model, selection, None)
    }

    /// The same, and takes note of each tensor's gradient in a backward pass before they are
    /// detached. The network must be in its training form.
    pub fn attach_with_gradients<M: Module>(model: &M, selection: Selection) -> Self {
        Self::attach_to(model, selection, Some(GradientSink::default()))
    }

    fn attach_to<M: Module>(
        model: &M,
        selection: Selection,
        gradients: Option<GradientSink>,
    ) -> Self {
        let mut find = FindLayers::default();
        model.visit(&mut find);
        TAPS.set(Some(Attached {
            layers: find.layers,
            selection,
            gradients: gradients.clone(),
            seen: Vec::new(),
        }));
        Self {
            gradients,
            _here: std::marker::PhantomData,
        }
    }

    /// Whether some are attached on this thread; two layers that could be one pass are then two.
    pub fn are_attached() -> bool {
        TAPS.with_borrow(Option::is_some)
    }

    /// Detaches them and returns what was seen, in the order of passing.
    pub fn detach(self) -> Vec<Tapped> {
        let attached = TAPS.take();
        let mut seen = attached.map_or_else(Vec::new, |attached| attached.seen);
        let gradients = self.gradients.as_ref().map(GradientSink::take);
        for (mark, gradient) in gradients.unwrap_or_default() {
            seen[mark].gradient = Some(gradient);
        }
        seen
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        TAPS.set(None);
    }
}

/// What the taps on this thread make of a tensor of the layer `id`: the tensor itself, to be used
/// in its place.
pub(crate) fn pass<const D: usize>(id: ParamId, slot: &str, x: Tensor<D>) -> Tensor<D> {
    let marked = MARKS.with_borrow(|layers| layers.as_ref()?.get(&id).cloned());
    if let Some((layer, layer_type)) = marked {
        let slot = slot.into();
        let at = Mark {
            layer,
            layer_type,
            slot,
        };
        return mark(x, at);
    }
    TAPS.with_borrow_mut(|taps| {
        let Some(taps) = taps else { return x };
        let Some((layer, layer_type)) = taps.layers.get(&id) else {
            return x;
        };
        let place = Place {
            layer: layer.clone(),
            layer_type: layer_type.clone(),
            slot: slot.into(),
        };
        if !taps.selection.accepts(&place) {
            return x;
        }
        let tensor = x.clone().without_autodiff().into_data();
        taps.seen.push(Tapped {
            place,
            read: tensor.clone(),
            tensor,
            gradient: None,
        });
        match &taps.gradients {
            Some(sink) => watch_gradient(x, sink, taps.seen.len() - 1),
            None => x,
        }
    })
}

/// Takes note of what the operator of the layer `id` reads, where the taps on this thread have just
/// seen the tensor in that slot.
pub(crate) fn read<const D: usize>(id: ParamId, slot: &str, operand: &Operand<D>) {
    let listens = TAPS.with_borrow(|taps| taps.as_ref().is_some_and(|t| t.saw_last(id, slot)));
    if !listens {
        return;
    }
    let read = operand.clone().quantized().without_autodiff().into_data();
    TAPS.with_borrow_mut(|taps| {
        if let Some(tapped) = taps.as_mut().and_then(|taps| taps.seen.last_mut()) {
            tapped.read = read;
        }
    });
}

/// Finds the identity of every layer.
#[derive(Default)]
struct FindLayers {
    path: ModulePath,
    layers: FoundLayers,
}

impl ModuleVisitor for FindLayers {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        if (self.path.holder_type(), self.path.field()) != ("Quantizers", "identity") {
            return;
        }
        if let Some(place) = self.path.place() {
            self.layers.insert(flag.id, (place.layer, place.layer_type));
        }
    }
}
