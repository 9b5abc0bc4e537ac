//! Results for libraries that take arrays by DLPack.

// A header for another library says where the numbers are; the use says why that holds.
#![allow(unsafe_code)]

use std::sync::Arc;

use dlpark::ffi::{DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned};
use dlpark::metadata::Dynamic;
use dlpark::python::{DlpackExporter, ExportRequest, export_dlpack};
use dlpark::{DlpackFlags, Managed, ManagedTensorBase};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::memory::{Kind, View};

/// Numbers in row-major order, which any library with `from_dlpack` takes without a copy.
#[pyclass(module = "lowbit", frozen)]
pub(crate) struct Buffer {
    /// Numbers of any type; words keep them aligned.
    words: Arc<Vec<u64>>,
    kind: Kind,
    shape: Vec<usize>,
}

impl Buffer {
    /// Zeros, which `fill` overwrites.
    pub(crate) fn new(
        kind: Kind,
        shape: &[usize],
        fill: impl FnOnce(&View) -> PyResult<()>,
    ) -> PyResult<Self> {
        let bytes = shape.iter().product::<usize>() * kind.size();
        let mut words = vec![0u64; bytes.div_ceil(8)];
        let mut stride = 1;
        let strides = shape.iter().rev().map(|&extent| {
            let this = stride as isize;
            stride *= extent;
            this
        });
        let mut strides: Vec<isize> = strides.collect();
        strides.reverse();
        // SAFETY: the words have room for all numbers, and are not used while the view is.
        let view = unsafe {
            let address = words.as_mut_ptr() as usize;
            View::new(kind, address, shape.to_vec(), strides, true)
        };
        view.map_or(Ok(()), |view| fill(&view))?;
        Ok(Self {
            words: Arc::new(words),
            kind,
            shape: shape.to_vec(),
        })
    }

    fn managed<M: ManagedTensorBase>(&self) -> PyResult<Managed<M>> {
        let failed = |error: &dyn std::fmt::Display| PyBufferError::new_err(error.to_string());
        let shape: Vec<i64> = self.shape.iter().map(|&n| n as i64).collect();
        let metadata = Dynamic::compact(shape);
        let words = Arc::clone(&self.words);
        let address = words.as_ptr().cast_mut().cast();
        let made = metadata.initialize_as::<M>(words);
        let mut made = made.map_err(|error| failed(&error))?;
        made.set_data(address);
        made.set_device(DLDevice::CPU);
        made.set_dtype(self.dtype());
        // SAFETY: address, type and extents are those of the words, which the header keeps alive.
        Ok(unsafe { made.finish() })
    }

    fn dtype(&self) -> DLDataType {
        match self.kind {
            Kind::F16 => DLDataType::F16,
            Kind::Bf16 => DLDataType::BF16,
            Kind::F64 => DLDataType::F64,
            _ => DLDataType::F32,
        }
    }
}

#[pymethods]
impl Buffer {
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(u32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Py<PyAny>> {
        let request = ExportRequest::parse(stream.as_ref(), max_version, dl_device, copy)?;
        export_dlpack(self, py, request)
    }

    fn __dlpack_device__(&self) -> (u32, i32) {
        DLDevice::CPU.into()
    }
}

impl DlpackExporter for Buffer {
    fn device(&self) -> DLDevice {
        DLDevice::CPU
    }

    fn flags(&self) -> DlpackFlags {
        DlpackFlags::empty()
    }

    fn prepare_export(&self, _py: Python<'_>, _request: &ExportRequest<'_>) -> PyResult<()> {
        Ok(())
    }

    fn export_legacy(&self, _py: Python<'_>) -> PyResult<Managed<DLManagedTensor>> {
        self.managed()
    }

    fn export_versioned(&self, _py: Python<'_>) -> PyResult<Managed<DLManagedTensorVersioned>> {
        self.managed()
    }
}
