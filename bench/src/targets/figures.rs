//! What the targets are made of: figures of the cells, and ratios of them.

use crate::{
    http::GROWING,
    results::{FDATASYNC, Results, Sample},
    spread::Spread,
};

pub(super) const CPU: fn(&Sample) -> f64 = |sample| sample.cpu_us;
pub(super) const RATE: fn(&Sample) -> f64 = |sample| sample.per_second;
pub(super) const P50: fn(&Sample) -> f64 = |sample| sample.p50_us;

/// What the targets are made of.
pub(super) struct Figures<'a>(pub(super) &'a Results);

impl Figures<'_> {
    pub(super) fn ratio(
        &self,
        of: fn(&Sample) -> f64,
        above: &str,
        below: &str,
        connections: u32,
    ) -> Option<Spread> {
        let [above, below] = [above, below].map(|name| self.0.cell(name, connections, of));
        Spread::of_ratio(&above, &below)
    }

    pub(super) fn fact(&self, name: &str) -> Option<Spread> {
        Spread::of(self.0.facts.get(name).map_or(&[], std::slice::from_ref))
    }

    /// What a request on the file takes longer than one in memory, in times of the disk's own.
    pub(super) fn beyond_memory(&self) -> Option<Spread> {
        let disk = *self.0.facts.get(FDATASYNC)?;
        let [file, memory] = ["file", "memory"].map(|name| self.0.cell(name, 1, P50));
        let beyond = file.iter().zip(&memory);
        let beyond = beyond.map(|(file, memory)| (file - memory) / disk);
        Spread::of(&beyond.collect::<Vec<_>>())
    }

    /// How often the store is asked in the cell where that is most often, as a share of how often
    /// the disk could be flushed by one who did nothing else.
    pub(super) fn busiest_store(&self) -> Option<Spread> {
        let disk = *self.0.facts.get(FDATASYNC)?;
        let cells = GROWING.map(|connections| {
            let operations = self
                .0
                .cell("file, growing", connections, Sample::operations);
            let shares = operations.iter().map(|operations| operations * disk / 1e6);
            Spread::of(&shares.collect::<Vec<_>>())
        });
        let cells = cells.into_iter().flatten();
        cells.max_by(|a, b| a.median.total_cmp(&b.median))
    }

    /// How many numbers a second come out of etcd for 256 clients, against one after another.
    pub(super) fn together_against_alone(&self) -> Option<Spread> {
        let [together, alone] = [256, 1].map(|c| self.0.cell("etcd", c, RATE));
        Spread::of_ratio(&together, &alone)
    }

    pub(super) fn many_against_one(&self) -> Option<Spread> {
        let [many, one] = [1024, 1].map(|c| self.0.cell("file, growing", c, Sample::operations));
        Spread::of_ratio(&many, &one)
    }
}
