//! The library as a user calls it. One program for all files: each of its own would compile Burn's
//! generics again.

mod accumulator;
mod activations;
mod averaging;
mod calibration;
mod calibration_of_layers;
mod capture;
mod capture_outputs;
mod chain;
mod config;
mod convolutions;
mod distillation;
mod fixtures;
mod flow;
mod gradient_slots;
mod gradients;
mod hold_out;
mod image_folder;
mod integer;
mod integer_shapes;
mod layers;
mod methods;
mod models;
mod nir;
mod nir_nodes;
mod numbers;
mod operators;
mod operators_pytorch;
mod own_layer;
mod qpytorch;
mod recipes;
mod shift_adder;
mod slots;
mod spiking_chips;
mod spiking_scales;
mod training;
