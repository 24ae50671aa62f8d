//! The laboratory: real servers for the demo and the tests, load, faults. Not in the production build.

pub mod servers;
