//! What a failing disk, or a fault in an index, would do to what is stored: for those who must find it out.

use super::State;
use crate::job::JobId;

impl State {
    /// Spoils the stored request of a job. Answers whether there was one.
    pub fn rot(&mut self, id: JobId) -> bool {
        let Some(seq) = self.shelf.seq_of(id) else { return false };
        self.shelf.change(seq, |record| record.request.content_type = Some("text/rotten".to_owned()));
        true
    }

    /// Takes a job out of the index of those that wait, as if nobody had put it there.
    pub fn misplace(&mut self, id: JobId) {
        if let Some(seq) = self.shelf.seq_of(id) {
            let (lane, record) = self.shelf.lane_mut(seq);
            lane.take(record);
        }
    }

    /// Leaves a job that is done with at the head of its ordering key, as if nobody had moved on to the next.
    pub fn jam(&mut self, id: JobId) {
        if let Some(seq) = self.shelf.seq_of(id) {
            let (lane, record) = self.shelf.lane_mut(seq);
            lane.jam(record);
        }
    }
}
