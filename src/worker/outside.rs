//! What a worker takes from outside itself: the wall clock, and chance. A simulation gives both from its seed.

#[cfg(feature = "lab")]
use std::sync::Arc;

use jiff::Timestamp;

/// Wall clock and chance of a simulation.
#[cfg(feature = "lab")]
pub(crate) trait Source: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Uniform in 0 to 1.
    fn chance(&self) -> f64;
}

/// The machine's own clock and chance, unless a laboratory has put others in their place.
#[derive(Clone, Default)]
pub(crate) struct Outside {
    #[cfg(feature = "lab")]
    source: Option<Arc<dyn Source>>,
}

impl Outside {
    /// Another clock and another chance.
    #[cfg(feature = "lab")]
    pub(crate) fn of(source: Arc<dyn Source>) -> Self {
        Self { source: Some(source) }
    }

    pub(super) fn now(&self) -> Timestamp {
        #[cfg(feature = "lab")]
        if let Some(source) = &self.source {
            return source.now();
        }
        Timestamp::now()
    }

    pub(super) fn chance(&self) -> f64 {
        #[cfg(feature = "lab")]
        if let Some(source) = &self.source {
            return source.chance();
        }
        rand::random()
    }
}
