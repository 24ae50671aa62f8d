//! The laboratory: real servers for the demo and the tests, load, faults. Not in the production build.

pub mod load;
pub mod print;
pub mod report;
pub mod servers;
pub mod view;
