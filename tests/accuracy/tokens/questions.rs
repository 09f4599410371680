//! What models are asked: the same questions for every way to count tokens, made of a seed.

use slidegate_tests::runner::START_US;

use crate::traffic::Random;

/// The limit of each user on tokens, and its window.
pub(crate) const LIMIT: u64 = 100_000;
pub(crate) const WINDOW_US: u64 = 60_000_000;

/// Users, and gateways that they come to at random.
pub(crate) const USERS: usize = 4;
pub(crate) const GATEWAYS: usize = 4;

/// So long questions come, in windows.
pub(crate) const WINDOWS: u64 = 5;

/// No answer takes more tokens than its question allows, nor is there a question that allows more than this.
const OUTPUT_MAX: u64 = 8_000;

/// One question, and its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// When it comes, by the one clock of everybody.
    pub(crate) at_us: u64,
    pub(crate) user: usize,
    pub(crate) gateway: usize,
    /// Tokens of the prompt, each of four bytes.
    pub(crate) input: u64,
    /// What it allows the answer.
    pub(crate) output_max: u64,
    /// What the answer takes.
    pub(crate) output: u64,
    /// How long it takes.
    pub(crate) lasts_us: u64,
    /// Of the steps that the answer is told in, so many come; the client leaves before the next. None: all.
    pub(crate) leaves_after: Option<u64>,
}

/// A way in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// At random, half as many again as there is room for.
    Busy,
    /// Sixty of a user at one instant, now and then.
    AtOnce,
    /// Short answers for a while, by which one would estimate, and then long ones.
    Misleading,
    /// Answers that go on for up to two and a half windows.
    Lasting,
    /// Every third client leaves before the end.
    Leaving,
}

impl Talk {
    pub(crate) const ALL: [Talk; 5] = [Talk::Busy, Talk::AtOnce, Talk::Misleading, Talk::Lasting, Talk::Leaving];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Talk::Busy => "demand of 1.5×",
            Talk::AtOnce => "60 at once",
            Talk::Misleading => "short, then long",
            Talk::Lasting => "up to 2.5 windows",
            Talk::Leaving => "a third leaves",
        }
    }

    /// Its questions, in order of time.
    pub(crate) fn questions(self, seed: u64) -> Vec<Question> {
        let random = &mut Random(seed * 8 + self as u64);
        let mut questions = Vec::new();
        for user in 0..USERS {
            let times = match self {
                Talk::AtOnce => at_once(random),
                // The mean of an answer and its prompt is some 1,000.
                _ => at_random(random, 1.5 * LIMIT as f64 / 1_000.0),
            };
            questions.extend(times.into_iter().map(|windows| self.question(user, windows, random)));
        }
        questions.sort_by_key(|question| question.at_us);
        questions
    }

    fn question(self, user: usize, windows: f64, random: &mut Random) -> Question {
        let is_long = self == Talk::Misleading && windows % 2.0 > 1.5;
        let median = match self {
            Talk::Misleading if is_long => 4_000.0,
            Talk::Misleading => 20.0,
            _ => 600.0,
        };
        let output = ((median * (0.9 * random.normal()).exp()) as u64).clamp(1, OUTPUT_MAX);
        let seconds = match self {
            Talk::Lasting => 150.0 * random.share(),
            // Some 100 tokens a second.
            _ => output as f64 / 100.0,
        };
        let leaves = self == Talk::Leaving && random.next().is_multiple_of(3);
        Question {
            at_us: START_US + (windows * WINDOW_US as f64) as u64,
            user,
            gateway: random.next() as usize % GATEWAYS,
            input: 16 + random.next() % 400,
            output_max: (output + random.next() % 1_000).min(OUTPUT_MAX),
            output,
            lasts_us: (seconds * 1e6) as u64,
            leaves_after: leaves.then(|| random.next() % Question::STEPS),
        }
    }
}

/// So many in a window, in windows after the start.
fn at_random(random: &mut Random, per_window: f64) -> Vec<f64> {
    let mut now = 0.0;
    let mut times = Vec::new();
    loop {
        now += random.gap() / per_window;
        if now >= WINDOWS as f64 {
            return times;
        }
        times.push(now);
    }
}

fn at_once(random: &mut Random) -> Vec<f64> {
    let mut times = Vec::new();
    let mut now = random.share();
    while now < WINDOWS as f64 {
        times.extend([now; 60]);
        now += 0.3 + 0.5 * random.share();
    }
    times
}

impl Question {
    /// An answer is told in so many steps, each of which tells what it has come to.
    pub(crate) const STEPS: u64 = 4;

    /// When this step of the answer comes, the last of which is its end.
    pub(crate) fn step_us(&self, step: u64) -> u64 {
        self.at_us + self.lasts_us * (step + 1) / Self::STEPS
    }

    /// What the answer has come to with this step.
    pub(crate) fn output_by(&self, step: u64) -> u64 {
        self.output * (step + 1) / Self::STEPS
    }
}
