//! The counter on a disk that loses, tears and fails writes at every step.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use fastrand::Rng;

use super::{
    FileError,
    disk::{Disk, DiskFile},
    slots::Counter,
};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A file as programs see it, and as it is on the platter.
#[derive(Clone, Default)]
struct Data {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

/// Names as programs see them, and as they are on the platter; the files behind them are shared.
#[derive(Default)]
struct State {
    files: Vec<Data>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    rng: Rng,
    /// One in so many operations fails; none at 0.
    failing: u32,
    /// Operations until the power goes; from then on everything fails.
    power: u32,
}

/// A disk under a power switch. A clone is the same disk.
#[derive(Clone, Default)]
struct Simulated(Arc<Mutex<State>>);

struct SimulatedFile {
    disk: Simulated,
    id: usize,
}

impl Simulated {
    fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.0.lock().unwrap().rng = Rng::with_seed(seed);
        disk
    }

    /// Lets an operation happen or fail; every one passes through here.
    fn step(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.0.lock().unwrap();
        if state.power == 0 {
            return Err(io::Error::other("the power is off"));
        }
        state.power -= 1;
        let failing = state.failing;
        if failing > 0 && state.rng.u32(..failing) == 0 {
            return Err(io::Error::other("the disk has failed"));
        }
        Ok(state)
    }

    /// The power goes and comes back: what was not durable may or may not be there, sector by
    /// sector and name by name.
    fn lose_power(&self) {
        let mut state = self.0.lock().unwrap();
        let State {
            files,
            names,
            durable_names,
            rng,
            ..
        } = &mut *state;
        for file in files {
            tear(&mut file.durable, &file.seen, rng);
            file.seen = file.durable.clone();
        }
        let changed: Vec<String> = names.keys().chain(durable_names.keys()).cloned().collect();
        for name in changed {
            if rng.bool() {
                match names.get(&name) {
                    Some(id) => durable_names.insert(name, *id),
                    None => durable_names.remove(&name),
                };
            }
        }
        *names = durable_names.clone();
    }
}

/// Moves some of the sectors that differ from `seen` to the platter.
fn tear(durable: &mut Vec<u8>, seen: &[u8], rng: &mut Rng) {
    if durable.len() != seen.len() && rng.bool() {
        durable.resize(seen.len(), 0);
    }
    for start in (0..durable.len().min(seen.len())).step_by(SECTOR) {
        if rng.bool() {
            let end = (start + SECTOR).min(durable.len()).min(seen.len());
            durable[start..end].copy_from_slice(&seen[start..end]);
        }
    }
}

impl Disk for Simulated {
    type File = SimulatedFile;

    fn open(&self, name: &str) -> io::Result<Option<SimulatedFile>> {
        let id = self.step()?.names.get(name).copied();
        Ok(id.map(|id| SimulatedFile {
            disk: self.clone(),
            id,
        }))
    }

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.step()?;
        let id = state.files.len();
        state.files.push(Data::default());
        state.names.insert(name.to_owned(), id);
        Ok(SimulatedFile {
            disk: self.clone(),
            id,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.step()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step()?.names.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.step()?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl DiskFile for SimulatedFile {
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let state = self.disk.step()?;
        let seen = &state.files[self.id].seen;
        Ok(seen[..seen.len().min(limit)].to_vec())
    }

    fn write_at(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        let done = self.disk.step();
        let failed = done.is_err();
        let mut state = match done {
            Ok(state) => state,
            // A write that fails may have done a part of its work.
            Err(_) => self.disk.0.lock().unwrap(),
        };
        let State { files, rng, .. } = &mut *state;
        let seen = &mut files[self.id].seen;
        let end = if failed {
            rng.usize(..=bytes.len()) / SECTOR * SECTOR
        } else {
            bytes.len()
        };
        if seen.len() < offset + end {
            seen.resize(offset + end, 0);
        }
        seen[offset..offset + end].copy_from_slice(&bytes[..end]);
        if failed {
            Err(io::Error::other("the write has failed"))
        } else {
            Ok(())
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let done = self.disk.step().map(drop);
        let mut state = self.disk.0.lock().unwrap();
        let State { files, rng, .. } = &mut *state;
        let Data { seen, durable } = &mut files[self.id];
        match done {
            Ok(()) => durable.clone_from(seen),
            // It may have written some of it, and will not try the rest again.
            Err(_) => tear(durable, seen, rng),
        }
        done
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let state = self.disk.step()?;
        Ok(state.names.values().any(|&id| id == self.id))
    }
}

/// Uses a counter until the power goes or the disk fails, and opens it again, many times over.
/// Returns how many times it was opened.
fn one_life(seed: u64) -> u32 {
    let disk = Simulated::new(seed);
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let mut acknowledged = 0;
    let mut attempted = 0;
    let mut opened = 0;
    for _ in 0..8 {
        {
            let mut state = disk.0.lock().unwrap();
            state.power = rng.u32(1..40);
            state.failing = rng.choice([0, 0, 10, 30]).unwrap_or(0);
        }
        match Counter::open(&disk, "numbers") {
            Ok(mut counter) => {
                opened += 1;
                let last = counter.last();
                assert!(
                    last >= acknowledged,
                    "seed {seed}: {last} after {acknowledged}"
                );
                assert!(
                    last <= attempted,
                    "seed {seed}: {last}, but {attempted} was the most"
                );
                while let Some(next) = counter.last().checked_add(rng.u64(1..1000)) {
                    attempted = attempted.max(next);
                    let found = counter.must_be_in_place();
                    assert!(
                        !matches!(found, Err(FileError::NotInPlace(_))),
                        "seed {seed}: a name that does not lead to its file"
                    );
                    if found.is_err() || counter.commit(next).is_err() {
                        break;
                    }
                    acknowledged = next;
                }
            }
            Err(FileError::Io(..)) => {}
            Err(problem) => panic!("seed {seed}: refused without damage: {problem}"),
        }
        // The process always ends here; the power does not always go with it.
        if rng.u8(..4) > 0 {
            disk.lose_power();
        }
    }
    opened
}

/// How many lives to try.
fn seeds() -> u64 {
    e2e::soak::scaled(100_000, 1_000)
}

#[test]
fn no_number_is_lost_or_repeated_on_a_disk_that_fails_at_any_step() {
    let opened: u64 = (0..seeds()).map(|seed| u64::from(one_life(seed))).sum();
    assert!(
        opened > seeds(),
        "the simulation must get somewhere: opened {opened} times"
    );
}

#[test]
fn damage_is_never_taken_for_a_crash() {
    for seed in 0..seeds() {
        let mut rng = Rng::with_seed(seed);
        let disk = Simulated::new(seed);
        disk.0.lock().unwrap().power = 1000;
        let mut counter = Counter::open(&disk, "numbers").expect("a new counter");
        for last in 1..rng.u64(2..20) {
            counter.commit(last * 10).expect("a good disk");
        }
        let mut state = disk.0.lock().unwrap();
        let id = state.names["numbers.sequence"];
        let seen = &mut state.files[id].seen;
        match rng.u8(..3) {
            0 => {
                let place = rng.usize(..seen.len());
                seen[place] ^= rng.u8(1..=255);
            }
            1 => seen.truncate(rng.usize(..seen.len())),
            _ => {
                let start = rng.usize(..seen.len() / SECTOR) * SECTOR;
                seen[start..start + SECTOR].fill(0xff);
            }
        }
        drop(state);
        let refused = Counter::open(&disk, "numbers").err();
        assert!(
            matches!(refused, Some(FileError::Damaged { .. })),
            "seed {seed}: {refused:?}"
        );
    }
}
