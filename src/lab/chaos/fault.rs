//! The faults, and the schedule that a seed makes of them.

use std::fmt;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use super::bounded;
use super::process::WorkerProcess;
use crate::cli::Failure;
use crate::lab::load::random::Random;
use crate::lab::outage::Outage;
use crate::lab::stage::Stage;

/// One fault. Each ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL of the worker; the next one starts after a while.
    KillWorker { away: Duration },
    /// SIGTERM, and the next one starts when it has ended.
    StopWorker,
    /// SIGSTOP, and SIGCONT after a while: longer than `ack_wait`, its events are redelivered meanwhile.
    FreezeWorker { away: Duration },
    /// SIGKILL of the server; it is started again on its folder.
    KillServer { away: Duration },
    /// SIGSTOP of the server, and SIGCONT.
    FreezeServer { away: Duration },
    /// Another connection holds the store's write lock.
    LockStore { away: Duration },
}

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillWorker { .. } => "kill worker",
            Self::StopWorker => "stop worker",
            Self::FreezeWorker { .. } => "freeze worker",
            Self::KillServer { .. } => "kill server",
            Self::FreezeServer { .. } => "freeze server",
            Self::LockStore { .. } => "lock store",
        }
    }

    fn of(random: &mut Random) -> Self {
        let mut away = |most| Duration::from_millis(random.below(most));
        let (short, long) = (away(1_500), away(4_500));
        match random.below(10) {
            0..3 => Self::KillWorker { away: short },
            3 => Self::StopWorker,
            4 => Self::FreezeWorker { away: long },
            5..7 => Self::KillServer { away: short },
            7 => Self::FreezeServer { away: long },
            _ => Self::LockStore { away: long },
        }
    }

    fn away(self) -> Duration {
        match self {
            Self::StopWorker => Duration::ZERO,
            Self::KillWorker { away }
            | Self::FreezeWorker { away }
            | Self::KillServer { away }
            | Self::FreezeServer { away }
            | Self::LockStore { away } => away,
        }
    }

    /// Makes it happen, and undoes it.
    pub(super) async fn strike(self, stage: &mut Stage, worker: &mut WorkerProcess) -> Result<(), Failure> {
        match self {
            Self::KillWorker { away } => {
                worker.kill().await;
                sleep(away).await;
                *worker = WorkerProcess::start(stage)?;
            }
            Self::StopWorker => {
                // How it ended is looked at where no fault came before; here its grace time may be over.
                bounded("the worker ends", worker.terminate(false)).await?;
                *worker = WorkerProcess::start(stage)?;
            }
            Self::FreezeWorker { away } => {
                worker.signal(Signal::STOP);
                sleep(away).await;
                worker.signal(Signal::CONT);
            }
            Self::KillServer { away } => {
                stage.server.kill9()?;
                sleep(away).await;
                stage.server.restart().await?;
            }
            Self::FreezeServer { away } => {
                stage.server.freeze()?;
                sleep(away).await;
                stage.server.thaw()?;
            }
            Self::LockStore { away } => {
                let outage = bounded("the store's lock", Outage::of_store(stage.store_path())).await??;
                sleep(away).await;
                outage.end().await;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ms", self.name(), self.away().as_millis())
    }
}

/// Pauses and faults: as many as fit `limit`, or exactly `faults`.
pub(super) fn schedule(seed: u64, limit: Duration, faults: Option<u64>) -> Vec<(Duration, Fault)> {
    let mut random = Random::new(seed);
    let mut plan = Vec::new();
    let mut planned = Duration::ZERO;
    loop {
        let full = match faults {
            Some(faults) => u64::try_from(plan.len()).unwrap_or(u64::MAX) >= faults,
            None => planned >= limit,
        };
        if full {
            return plan;
        }
        let pause = Duration::from_millis(200_u64.saturating_add(random.below(2_500)));
        let fault = Fault::of(&mut random);
        planned = planned.saturating_add(pause).saturating_add(fault.away());
        plan.push((pause, fault));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule_and_an_hour_has_every_fault() {
        let hour = Duration::from_secs(3_600);
        let plan = schedule(7, hour, None);
        assert_eq!(plan, schedule(7, hour, None));
        assert_ne!(plan, schedule(8, hour, None));
        let names: std::collections::BTreeSet<_> = plan.iter().map(|(_, fault)| fault.name()).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert_eq!(schedule(7, hour, Some(5)), plan[..5]);
    }
}
