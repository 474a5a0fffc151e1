//! What the workers of one thread write down.

use std::collections::BTreeMap;

use hyper::header::HeaderValue;

use crate::client::{Failed, Failure};
use crate::{Operation, Violation};

/// Wrong answers that each thread keeps in full. The first tell the story; the rest are counted.
const KEPT: usize = 10;

/// How often a kind of failure happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureCount {
    /// How many requests failed like this.
    pub count: u64,
    /// What the service or the system said the first time; may be empty.
    pub example: String,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) operations: Vec<Operation>,
    pub(super) wrong: Vec<Violation>,
    pub(super) wrong_answers: u64,
    pub(super) failures: BTreeMap<Failure, FailureCount>,
    pub(super) served_by: BTreeMap<HeaderValue, u64>,
    pub(super) hashes: u64,
}

impl Tally {
    pub(super) fn wrong(&mut self, violation: Violation) {
        self.wrong_answers += 1;
        if self.wrong.len() < KEPT {
            self.wrong.push(violation);
        }
    }

    pub(super) fn failed(&mut self, failed: Failed) {
        let entry = self.failures.entry(failed.failure).or_default();
        if entry.count == 0 {
            entry.example = failed.detail;
        }
        entry.count += 1;
    }

    pub(super) fn served_by(&mut self, name: &HeaderValue) {
        match self.served_by.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.served_by.insert(name.clone(), 1)),
        }
    }

    /// Adds what another thread wrote down.
    pub(super) fn append(&mut self, mut other: Self) {
        if self.operations.is_empty() {
            // The common case of one thread: nothing is copied.
            self.operations = other.operations;
        } else {
            self.operations.append(&mut other.operations);
        }
        self.wrong.append(&mut other.wrong);
        self.wrong_answers += other.wrong_answers;
        for (failure, more) in other.failures {
            let entry = self.failures.entry(failure).or_default();
            if entry.count == 0 {
                entry.example = more.example;
            }
            entry.count += more.count;
        }
        for (name, count) in other.served_by {
            *self.served_by.entry(name).or_default() += count;
        }
        self.hashes += other.hashes;
    }
}
