//! Clients and operators: they post, repeat what was not acknowledged, cancel, redrive, pause and resume.

use std::collections::BTreeMap;
use std::ops::Range;

use jobs_core::job::JobId;

use super::event::Event;
use super::network::{Answer, CallId, Caller, Receipt, Request};
use super::plan::{Act, MS, Post, Us};
use super::watch::Rule;
use super::world::World;

/// How long a client waits before it repeats a request whose answer it did not get.
const REPEAT_AFTER: (Us, Us) = (50 * MS, 1_500 * MS);

/// What the client knows of its posts.
#[derive(Debug)]
pub(super) struct Client {
    asked: BTreeMap<CallId, (Range<usize>, bool)>,
    /// By post: the job it was told of.
    jobs: Vec<Option<JobId>>,
    /// In the order of their acknowledgement.
    acknowledged: Vec<JobId>,
    /// Keyed posts that were made and never acknowledged.
    open: usize,
    made: Vec<bool>,
    not_yet_made: usize,
}

impl Client {
    pub(super) fn new(posts: usize) -> Self {
        Client {
            asked: BTreeMap::new(),
            jobs: vec![None; posts],
            acknowledged: Vec::new(),
            open: 0,
            made: vec![false; posts],
            not_yet_made: posts,
        }
    }

    /// There is to be one more post.
    fn expect_another(&mut self) {
        self.jobs.push(None);
        self.made.push(false);
        self.not_yet_made += 1;
    }

    /// A job that was acknowledged, mostly a late one.
    pub(super) fn pick(&self, pick: u64) -> Option<JobId> {
        let count = self.acknowledged.len();
        let late = if pick.is_multiple_of(4) { count } else { count.min(12) };
        let back = (pick / 4) as usize % late.max(1);
        count.checked_sub(1 + back).map(|index| self.acknowledged[index])
    }

    /// A post that was acknowledged.
    fn pick_post(&self, pick: u64) -> Option<usize> {
        let id = self.pick(pick)?;
        self.jobs.iter().position(|job| *job == Some(id))
    }

    /// Posts that are still to be acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.open + self.not_yet_made
    }
}

impl World {
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Post(posts) => self.post(posts, false),
            Act::PostAgain { pick, other_body } => {
                let known = self.client.pick_post(pick).filter(|post| self.plan.posts[*post].keyed);
                if let Some(post) = known {
                    self.post(post..post + 1, other_body);
                }
            }
            Act::Cancel { pick } => {
                if let Some(id) = self.client.pick(pick) {
                    self.send(Caller::Client, Request::Cancel(id));
                }
            }
            Act::Redrive { pick, new_key } => {
                if let Some(id) = self.client.pick(pick) {
                    self.send(Caller::Client, Request::Redrive(id, new_key));
                }
            }
            Act::Pause(site) => drop(self.send(Caller::Client, Request::Pause(site))),
            Act::Resume(site) => drop(self.send(Caller::Client, Request::Resume(site))),
            Act::Remove(site) => self.reload_without(site),
            Act::Return(site) => self.reload_with(site),
            Act::Trickle(site) => {
                if self.watch.open_jobs() > 0 && self.is_quiet() {
                    let post = self.plan.posts.len();
                    self.plan.posts.push(Post::plain(site));
                    self.client.expect_another();
                    self.watch.expect_another();
                    self.post(post..post + 1, false);
                }
            }
            Act::Unblock => {
                for id in self.watch.blocking() {
                    self.send(Caller::Client, Request::Cancel(id));
                }
            }
        }
    }

    fn post(&mut self, posts: Range<usize>, other_body: bool) {
        for post in posts.clone() {
            if !std::mem::replace(&mut self.client.made[post], true) {
                self.client.not_yet_made -= 1;
                self.client.open += usize::from(self.plan.posts[post].keyed);
            }
        }
        let call = self.send(Caller::Client, Request::Post(posts.clone(), other_body));
        self.client.asked.insert(call, (posts, other_body));
    }

    pub(super) fn client_hears(&mut self, call: CallId, answer: Option<Answer>) {
        let Some((posts, other_body)) = self.client.asked.remove(&call) else { return };
        match answer {
            Some(Answer::Posted(receipts)) => {
                for (post, receipt) in posts.zip(receipts) {
                    self.hear_of_post(post, receipt, other_body);
                }
            }
            Some(_) => unreachable!("a post is answered with receipts"),
            // Without a key it must not be repeated: it might make a second job.
            None => {
                for post in posts {
                    if !self.plan.posts[post].keyed || other_body {
                        continue;
                    }
                    let after = self.dice.between(REPEAT_AFTER);
                    self.after(after, Event::PostAgain(post..post + 1));
                }
            }
        }
    }

    fn hear_of_post(&mut self, post: usize, receipt: Receipt, other_body: bool) {
        match (receipt, other_body) {
            (Receipt::Stored(id), false) => {
                if let Some(before) = self.client.jobs[post].filter(|before| *before != id) {
                    self.violated(Rule::OnePerKey, format!("post {post} was told of {before} and {id}"));
                }
                if self.client.jobs[post].replace(id).is_none() {
                    self.client.acknowledged.push(id);
                    self.client.open -= usize::from(self.plan.posts[post].keyed);
                }
            }
            (Receipt::KeyReused, true) => {}
            (receipt, _) => {
                self.violated(Rule::OnePerKey, format!("post {post}, other body {other_body}: {receipt:?}"));
            }
        }
    }
}
