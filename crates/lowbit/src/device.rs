//! Where tensors are computed.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

pub use burn::tensor::Device;

use crate::error::{Error, one_of};

/// A kind of device that networks run on. Those beside [`Flex`](Self::Flex) are there where they
/// were built, as the cargo features of the same names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// The CPU.
    #[default]
    Flex,
    /// A GPU, by WebGPU, Vulkan or Metal: the one that the system prefers.
    Wgpu,
    /// An NVIDIA GPU: the first.
    Cuda,
}

impl DeviceKind {
    /// All kinds, built or not.
    pub const ALL: [Self; 3] = [Self::Flex, Self::Wgpu, Self::Cuda];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// The names of all kinds, as a person reads them.
    pub fn names() -> &'static str {
        static NAMES: LazyLock<String> =
            LazyLock::new(|| one_of(&DeviceKind::ALL.map(DeviceKind::name)));
        &NAMES
    }

    /// The device.
    ///
    /// # Errors
    /// If it is not built; the message says how to build it.
    pub fn device(self) -> Result<Device, Error> {
        match self {
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[cfg(not(all(feature = "wgpu", feature = "cuda")))]
            other => Err(Error::config(
                "device",
                format!(
                    "{other} is not built in; build it with: \
                     cargo build --release -p lowbit-cli --features {other}"
                ),
            )),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| Error::Unknown {
                kind: "device",
                text: text.into(),
                expected: Self::names(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_goes_by_its_name() {
        for kind in DeviceKind::ALL {
            assert_eq!(kind.to_string().parse::<DeviceKind>().unwrap(), kind);
        }
        assert!(DeviceKind::default().device().is_ok());
        assert_eq!(
            "tpu".parse::<DeviceKind>().unwrap_err().to_string(),
            "unknown device `tpu`, expected flex, wgpu or cuda"
        );
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn one_that_is_not_built_says_how_to_build_it() {
        assert_eq!(
            DeviceKind::Cuda.device().unwrap_err().to_string(),
            "device: cuda is not built in; build it with: \
             cargo build --release -p lowbit-cli --features cuda"
        );
    }
}
