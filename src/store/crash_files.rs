//! A file layer in memory that loses power, space and sectors as a seed says.
//!
//! Every call counts. At a chosen call the power goes: that call and all later ones fail, until
//! [`CrashFiles::restore_power`] decides what was on the device: each sector written since the last
//! sync is there or not, each name made since the last sync of the directory likewise.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::files::{File, Files};

/// What a device writes as one.
pub const SECTOR_OCTETS: usize = 512;

/// A device. Clones are the same device.
#[derive(Clone)]
pub struct CrashFiles {
    device: Arc<Mutex<Device>>,
}

/// What goes wrong, counted in calls from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The power goes in this call.
    pub power_cut: Option<u64>,
    /// From this call on there is no space.
    pub full: Option<u64>,
    /// This call fails; if it was a sync, what it should have synced is lost.
    pub failure: Option<u64>,
    /// From this call on everything that writes fails.
    pub dead: Option<u64>,
    /// Syncs say that they did, and do nothing: a planted fault that checkers must find.
    pub lying_sync: bool,
}

struct Device {
    /// Names as the running system sees them, and as the device has them.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    bodies: Vec<Body>,
    faults: Faults,
    calls: u64,
    power: bool,
    rng: ChaCha8Rng,
}

#[derive(Default)]
struct Body {
    octets: Vec<u8>,
    durable: Vec<u8>,
    /// Octets up to this are reserved.
    allocated: usize,
    /// Sectors that differ from `durable`.
    dirty: std::collections::BTreeSet<usize>,
}

impl CrashFiles {
    /// An empty device whose accidents follow `seed`.
    pub fn new(seed: u64) -> Self {
        let device = Device {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            bodies: Vec::new(),
            faults: Faults::default(),
            calls: 0,
            power: true,
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        Self {
            device: Arc::new(Mutex::new(device)),
        }
    }

    /// Sets what goes wrong and counts calls from zero again.
    pub fn set_faults(&self, faults: Faults) {
        let mut device = self.lock();
        device.faults = faults;
        device.calls = 0;
    }

    /// Calls since the faults were set.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Whether the power is still on.
    pub fn has_power(&self) -> bool {
        self.lock().power
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.lock().power = false;
    }

    /// Turns the power on again without faults: what was not synced is there, torn or lost.
    pub fn restore_power(&self) {
        let mut device = self.lock();
        device.settle_after_crash();
        device.power = true;
        device.faults = Faults::default();
        device.calls = 0;
    }

    /// All octets of a file, for a test that damages it.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let device = self.lock();
        let body = *device.names.get(name)?;
        Some(device.bodies[body].octets.clone())
    }

    /// Replaces a file, durably.
    pub fn set_contents(&self, name: &str, octets: &[u8]) {
        let mut device = self.lock();
        let body = Body {
            octets: octets.into(),
            durable: octets.into(),
            allocated: octets.len(),
            ..Body::default()
        };
        let place = device.bodies.len();
        device.bodies.push(body);
        device.names.insert(name.into(), place);
        device.durable_names.insert(name.into(), place);
    }

    fn lock(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call does, so that the right faults meet it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Grow,
    Sync,
}

/// How a call goes.
enum Fate {
    Well,
    Cut,
    Fails(io::Error),
}

impl Device {
    fn fate(&mut self, call: Call) -> Fate {
        self.calls += 1;
        let reached = |fault: Option<u64>| fault.is_some_and(|n| self.calls >= n);
        if !self.power {
            return Fate::Fails(io::Error::other("no power"));
        }
        if reached(self.faults.power_cut) {
            self.power = false;
            return Fate::Cut;
        }
        if self.faults.failure == Some(self.calls) && call != Call::Read {
            return Fate::Fails(rustix::io::Errno::IO.into());
        }
        if reached(self.faults.dead) && call != Call::Read {
            return Fate::Fails(rustix::io::Errno::IO.into());
        }
        if reached(self.faults.full) && call == Call::Grow {
            return Fate::Fails(rustix::io::Errno::NOSPC.into());
        }
        Fate::Well
    }

    fn check(&mut self, call: Call) -> io::Result<()> {
        match self.fate(call) {
            Fate::Well => Ok(()),
            Fate::Cut => Err(io::Error::other("no power")),
            Fate::Fails(error) => Err(error),
        }
    }

    fn coin(&mut self) -> bool {
        self.rng.next_u32() & 1 == 0
    }

    fn settle_after_crash(&mut self) {
        for name in self.changed_names() {
            if self.coin() {
                match self.names.get(&name).copied() {
                    Some(body) => self.durable_names.insert(name, body),
                    None => self.durable_names.remove(&name),
                };
            }
        }
        self.names = self.durable_names.clone();
        for place in 0..self.bodies.len() {
            // Half of the time all is lost or all is there, else each sector has its own luck.
            let luck = self.rng.next_u32() % 4;
            let dirty: Vec<usize> = std::mem::take(&mut self.bodies[place].dirty)
                .into_iter()
                .collect();
            for sector in dirty {
                let kept = match luck {
                    0 => false,
                    1 => true,
                    _ => self.coin(),
                };
                let torn = self.rng.next_u32() as usize % (8 * SECTOR_OCTETS);
                if kept {
                    self.bodies[place].keep(sector, torn.max(1));
                }
            }
            let body = &mut self.bodies[place];
            body.octets = body.durable.clone();
            body.allocated = body.octets.len();
        }
    }

    fn changed_names(&self) -> Vec<String> {
        let all = self.names.keys().chain(self.durable_names.keys());
        let changed = all.filter(|name| self.names.get(*name) != self.durable_names.get(*name));
        let mut changed: Vec<String> = changed.cloned().collect();
        changed.dedup();
        changed
    }
}

impl Body {
    fn write(&mut self, octets: &[u8], offset: usize) {
        let end = offset + octets.len();
        if self.octets.len() < end {
            self.octets.resize(end, 0);
        }
        self.octets[offset..end].copy_from_slice(octets);
        if !octets.is_empty() {
            self.dirty
                .extend(offset / SECTOR_OCTETS..=(end - 1) / SECTOR_OCTETS);
        }
    }

    /// Brings a sector, or the beginning of it, to the device.
    fn keep(&mut self, sector: usize, octets: usize) {
        let start = sector * SECTOR_OCTETS;
        let end = (start + octets.min(SECTOR_OCTETS)).min(self.octets.len());
        if start >= end {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.octets[start..end]);
    }

    /// After a failed sync the page cache may hold the old octets and call them clean.
    fn lose(&mut self) {
        let size = self.octets.len();
        self.octets = self.durable.clone();
        self.octets.resize(size, 0);
        self.dirty.clear();
    }
}

impl Files for CrashFiles {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut device = self.lock();
        device.check(Call::Grow)?;
        let body = device.bodies.len();
        device.bodies.push(Body::default());
        device.names.insert(name.into(), body);
        Ok(self.file(body))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut device = self.lock();
        device.check(Call::Read)?;
        let body = device.names.get(name).copied();
        Ok(self.file(body.ok_or(io::ErrorKind::NotFound)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut device = self.lock();
        device.check(Call::Read)?;
        Ok(device.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut device = self.lock();
        device.check(Call::Write)?;
        device.names.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut device = self.lock();
        device.check(Call::Write)?;
        let body = device.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        device.names.insert(to.into(), body);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut device = self.lock();
        device.check(Call::Sync)?;
        device.durable_names = device.names.clone();
        Ok(())
    }
}

impl CrashFiles {
    fn file(&self, body: usize) -> Arc<dyn File> {
        let device = self.device.clone();
        Arc::new(CrashFile { device, body })
    }
}

struct CrashFile {
    device: Arc<Mutex<Device>>,
    body: usize,
}

impl CrashFile {
    fn lock(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File for CrashFile {
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let mut device = self.lock();
        let offset = offset as usize;
        let grows = device.bodies[self.body].allocated < offset + octets.len();
        let call = if grows { Call::Grow } else { Call::Write };
        let fate = device.fate(call);
        let part = match fate {
            Fate::Well => octets.len(),
            _ => device.rng.next_u32() as usize % (octets.len() + 1),
        };
        let powerless = matches!(&fate, Fate::Fails(_)) && !device.power;
        if !powerless {
            device.bodies[self.body].write(&octets[..part], offset);
        }
        match fate {
            Fate::Well => Ok(()),
            Fate::Cut => Err(io::Error::other("no power")),
            Fate::Fails(error) => Err(error),
        }
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut device = self.lock();
        device.check(Call::Read)?;
        let body = &device.bodies[self.body].octets;
        let start = (offset as usize).min(body.len());
        let count = octets.len().min(body.len() - start);
        octets[..count].copy_from_slice(&body[start..start + count]);
        Ok(count)
    }

    fn size(&self) -> io::Result<u64> {
        let mut device = self.lock();
        device.check(Call::Read)?;
        Ok(device.bodies[self.body].octets.len() as u64)
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        let mut device = self.lock();
        device.check(Call::Grow)?;
        let body = &mut device.bodies[self.body];
        body.allocated = body.allocated.max(octets as usize);
        if body.octets.len() < octets as usize {
            body.octets.resize(octets as usize, 0);
        }
        Ok(())
    }

    fn truncate(&self, octets: u64) -> io::Result<()> {
        let mut device = self.lock();
        device.check(Call::Write)?;
        let body = &mut device.bodies[self.body];
        body.octets.truncate(octets as usize);
        body.durable.truncate(octets as usize);
        let sectors = (octets as usize).div_ceil(SECTOR_OCTETS);
        body.dirty.retain(|sector| *sector < sectors);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut device = self.lock();
        match device.fate(Call::Sync) {
            Fate::Well if device.faults.lying_sync => Ok(()),
            Fate::Well => {
                let body = &mut device.bodies[self.body];
                let dirty: Vec<usize> = std::mem::take(&mut body.dirty).into_iter().collect();
                for sector in dirty {
                    body.keep(sector, SECTOR_OCTETS);
                }
                let size = body.octets.len();
                body.durable.resize(size, 0);
                Ok(())
            }
            Fate::Cut => Err(io::Error::other("no power")),
            Fate::Fails(error) => {
                if device.power {
                    device.bodies[self.body].lose();
                }
                Err(error)
            }
        }
    }
}
