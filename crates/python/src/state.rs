//! The models of one Python process, and the process, as long as it lives. What was lost with it is
//! loaded again before it is needed.

use crate::batch::{Answer, Batch};
use crate::channel::NoAnswer;
use crate::config::PythonConfig;
use crate::error::{Doing, PythonError};
use crate::memory::InputArenas;
use crate::message::{AboutModel, Ask, LoadModel, Ran, Said, Tensor};
use crate::model::{Loaded, ModelId, ModelSpec};
use crate::pause::{Pause, Pausing};
use crate::process::Process;
use crate::script;
use crate::watched::{News, Watched};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use symphony_wire::carrier::shared_memory::ArenaBuf;
use symphony_wire::tensor::{OutputTensor, TensorSpec, bytes_count, elements_in};

#[derive(Debug)]
pub(crate) struct State {
    config: PythonConfig,
    inputs: Arc<InputArenas>,
    watched: Arc<Watched>,
    news: Sender<News>,
    process: Option<Process>,
    /// How many there have been.
    lives: u64,
    starts: Pause,
    models: BTreeMap<ModelId, Model>,
    next: u64,
    /// Nothing is started any more.
    is_stopped: bool,
}

#[derive(Debug)]
struct Model {
    spec: Arc<ModelSpec>,
    /// The life of the process that has it.
    life: Option<u64>,
    loads: Pause,
}

/// What is left to do after the process was lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// A model was loaded, or failed to; there may be more.
    Goes,
    /// Nothing, or nothing before this time.
    Done(Option<Instant>),
}

impl State {
    pub(crate) fn new(
        config: PythonConfig,
        inputs: Arc<InputArenas>,
        watched: Arc<Watched>,
        news: Sender<News>,
    ) -> State {
        State {
            config,
            inputs,
            watched,
            news,
            process: None,
            lives: 0,
            starts: Pause::default(),
            models: BTreeMap::new(),
            next: 0,
            is_stopped: false,
        }
    }

    /// Starts the process if it does not run.
    pub(crate) fn start(&mut self) -> Result<&mut Process, PythonError> {
        if self.is_stopped {
            return Err(PythonError::NoModel);
        }
        if self.process.as_mut().is_none_or(|process| !process.is_running()) {
            self.process = None;
            let refused = |problem: String| {
                let python = self.config.python.path().to_owned();
                PythonError::Start { python, problem }
            };
            self.starts.check(Instant::now()).map_err(|pausing| {
                let Pausing { failures, left, problem } = pausing;
                let next = left.as_secs() + 1;
                refused(format!("{problem}\n{failures} attempts failed; the next is in {next} s"))
            })?;
            self.lives += 1;
            let (life, news) = (self.lives, self.news.clone());
            // Nobody listens any more when the worker is being dropped.
            let at_end = move || _ = news.send(News::Ended(life));
            // What was written for the life before may be gone: directories of caches are emptied.
            let script = script::write(&self.config.directory);
            let script = script.map_err(|error| {
                refused(format!("{}: {error}", self.config.directory.display()))
            })?;
            let process = Process::start(&self.config, &script, life, at_end);
            let process = process.map_err(|problem| {
                self.starts.failed(Instant::now(), problem.clone(), false);
                refused(problem)
            })?;
            self.starts.clear();
            self.watched.begin(process.root());
            self.process = Some(process);
        }
        self.process.as_mut().ok_or(PythonError::NoModel)
    }

    pub(crate) fn load(&mut self, spec: ModelSpec) -> Result<Loaded, PythonError> {
        if [&spec.path, &spec.directory].iter().any(|path| path.to_str().is_none()) {
            let problem = format!("its path {} is not valid UTF-8", spec.path.display());
            return Err(PythonError::Load { model: spec.name, problem });
        }
        self.start()?;
        let id = ModelId(self.next);
        self.next += 1;
        let spec = Arc::new(spec);
        self.models.insert(id, Model { spec, life: None, loads: Pause::default() });
        let loaded = self.load_again(id);
        if loaded.is_err() {
            self.models.remove(&id);
        }
        let AboutModel { bf16, resident_bytes, device_bytes, seconds } = loaded?;
        let took = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(Loaded { id, resident_bytes, device_bytes, took, bf16 })
    }

    /// Loads a model into the process that runs.
    fn load_again(&mut self, id: ModelId) -> Result<AboutModel, PythonError> {
        let spec = self.spec(id)?;
        let bound = self.config.bounds.load;
        let process = self.start()?;
        let life = process.life;
        let said = process.ask(&Ask::Load(LoadModel::new(id.0, &spec)), bound);
        let loaded = match said {
            Ok(Said::Loaded(about)) => Ok(about),
            Ok(Said::Error(problem)) => {
                Err(PythonError::Load { model: spec.name.clone(), problem })
            }
            Ok(_) => Err(self.lost(
                &spec,
                Doing::Loading,
                bound,
                garbled("the answer is to another question"),
            )),
            Err(no_answer) => Err(self.lost(&spec, Doing::Loading, bound, no_answer)),
        };
        if let Some(model) = self.models.get_mut(&id) {
            match &loaded {
                Ok(_) => model.loads.clear(),
                // One that ends the process costs the others of it another load.
                Err(error) => {
                    let is_costly = !matches!(error, PythonError::Load { .. });
                    model.loads.failed(Instant::now(), error.to_string(), is_costly);
                }
            }
            model.life = loaded.is_ok().then_some(life);
        }
        loaded
    }

    pub(crate) fn unload(&mut self, id: ModelId) {
        let Some(model) = self.models.remove(&id) else { return };
        let bound = self.config.bounds.end;
        let Some(process) = &mut self.process else { return };
        if model.life != Some(process.life) || !process.is_running() {
            return;
        }
        let no_answer = match process.ask(&Ask::Unload { model: id.0 }, bound) {
            Ok(Said::Unloaded(_)) => return,
            Ok(Said::Error(problem)) => {
                let model = &model.spec.name;
                tracing::warn!(model, "the script failed while it was unloaded: {problem}");
                return;
            }
            Ok(_) => garbled("the answer is to another question"),
            Err(no_answer) => no_answer,
        };
        // `lost` has logged it.
        let _ = self.lost(&model.spec, Doing::Unloading, bound, no_answer);
    }

    pub(crate) fn run(&mut self, id: ModelId, batch: &Batch<'_>) -> Result<Answer, PythonError> {
        let spec = self.spec(id)?;
        let (inputs, _copies) = self.placed(&spec, batch)?;
        self.ready(id)?;
        let (bound, arenas) = (self.config.bounds.run, Arc::clone(&self.inputs));
        let rows = batch.rows_in_all();
        let doing = Doing::Running(rows);
        let process = self.start()?;
        let free = process.outputs().let_go();
        let ask = Ask::Run { model: id.0, inputs: &inputs, rows: batch.rows, free };
        let said = process.pass(&arenas, bound).and_then(|()| process.ask(&ask, bound));
        let answer = said.and_then(|said| match said {
            Said::Ran(ran) => answer(process, &spec, batch, ran).map(Ok).map_err(garbled),
            Said::Error(problem) => Ok(Err(problem)),
            _ => Err(garbled("the answer is to another question")),
        });
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(problem)) => Err(PythonError::Run { model: spec.name.clone(), rows, problem }),
            Err(no_answer) => Err(self.lost(&spec, doing, bound, no_answer)),
        }
    }

    /// The process of this life has ended.
    pub(crate) fn ended(&mut self, life: u64) {
        let Some(mut process) = self.process.take_if(|process| process.life == life) else {
            return;
        };
        let how = process.ended();
        let (bytes, lines) = (self.watched.end(), process.lines());
        let bytes =
            bytes.map_or_else(String::new, |bytes| format!(", with {bytes} bytes of memory"));
        tracing::warn!("a Python process {how}, between two batches{bytes}{lines}");
    }

    /// Takes one step towards having all models loaded again.
    pub(crate) fn recover(&mut self) -> Recovery {
        let (now, life) = (Instant::now(), self.process.as_ref().map(|process| process.life));
        let is_running = self.process.as_mut().is_some_and(Process::is_running);
        let lacking = |model: &Model| !is_running || model.life != life;
        let mut lacking = self.models.iter().filter(|(_, model)| lacking(model)).peekable();
        if lacking.peek().is_none() {
            return Recovery::Done(None);
        }
        let over = |model: &Model| model.loads.over().max(self.starts.over());
        let next = lacking.clone().map(|(_, model)| over(model)).min().flatten();
        let due = lacking.find(|(_, model)| over(model).is_none_or(|over| over <= now));
        let Some((&id, model)) = due else { return Recovery::Done(next) };
        let name = model.spec.name.clone();
        match self.ready(id) {
            Ok(()) => tracing::info!(model = name, "the model is loaded again"),
            Err(error) => tracing::warn!(model = name, "{error}"),
        }
        Recovery::Goes
    }

    /// Ends the process; models end by themselves first, if they do.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
        self.models.clear();
        self.watched.end();
        if let Some(process) = self.process.take() {
            process.stop(self.config.bounds.end);
        }
    }

    fn spec(&self, id: ModelId) -> Result<Arc<ModelSpec>, PythonError> {
        self.models.get(&id).map(|model| Arc::clone(&model.spec)).ok_or(PythonError::NoModel)
    }

    /// Has a process run that has the model.
    fn ready(&mut self, id: ModelId) -> Result<(), PythonError> {
        let life = self.start()?.life;
        let model = self.models.get(&id).ok_or(PythonError::NoModel)?;
        if model.life == Some(life) {
            return Ok(());
        }
        model.loads.check(Instant::now()).map_err(|pausing| {
            let Pausing { failures, left, problem } = pausing;
            PythonError::Pausing { model: model.spec.name.clone(), failures, left, problem }
        })?;
        self.load_again(id).map(drop)
    }

    /// The process does not answer any more: it is ended. What became of it.
    fn lost(
        &mut self,
        spec: &ModelSpec,
        doing: Doing,
        bound: Duration,
        no_answer: NoAnswer,
    ) -> PythonError {
        let model = spec.name.clone();
        let Some(mut process) = self.process.take() else { return PythonError::NoModel };
        let error = match no_answer {
            NoAnswer::Late => {
                let lines = process.where_it_is();
                PythonError::Hung { model, doing, bound, lines }
            }
            NoAnswer::Closed => {
                let how = process.ended();
                PythonError::Ended { model, doing, how, lines: process.lines() }
            }
            NoAnswer::Garbled(problem) => {
                process.end();
                let how = format!("was killed: {problem},");
                PythonError::Ended { model, doing, how, lines: process.lines() }
            }
        };
        let error = match (self.watched.end(), error) {
            (Some(bytes), PythonError::Ended { model, doing, .. }) => {
                let max = self.config.memory_max.unwrap_or_default();
                PythonError::Memory { model, doing, bytes, max }
            }
            (_, error) => error,
        };
        tracing::error!("{error}");
        error
    }

    /// Where the inputs of a batch lie. Those that lie elsewhere are copied, and the copies kept until
    /// the batch has run.
    fn placed(
        &self,
        spec: &ModelSpec,
        batch: &Batch<'_>,
    ) -> Result<(Vec<Tensor>, Vec<ArenaBuf>), PythonError> {
        fits(spec, batch)
            .map_err(|problem| PythonError::Unfit { model: spec.name.clone(), problem })?;
        let no_memory = |error: std::io::Error| PythonError::NoMemory(error.to_string());
        let (mut tensors, mut copies) = (Vec::with_capacity(batch.inputs.len()), Vec::new());
        for input in batch.inputs {
            let bytes = input.contents;
            let place = match self.inputs.place_of(bytes) {
                Some(place) => place,
                None => {
                    let mut copy = self.inputs.buffer(bytes.len()).map_err(no_memory)?;
                    copy[..bytes.len()].copy_from_slice(bytes);
                    let place = self.inputs.place_of(&copy);
                    copies.push(copy);
                    place.ok_or_else(|| PythonError::NoMemory("a buffer was lost".to_owned()))?
                }
            };
            tensors.push(Tensor(place.0, place.1, bytes.len() as u64, input.shape.to_vec()));
        }
        Ok((tensors, copies))
    }
}

fn garbled(problem: impl ToString) -> NoAnswer {
    NoAnswer::Garbled(problem.to_string())
}

/// Whether the contents of a tensor are as long as its shape asks for.
fn is_whole(spec: &TensorSpec, shape: &[usize], contents: &[u8]) -> bool {
    let Some(elements) = elements_in(shape) else { return false };
    match spec.datatype.size() {
        Some(size) => elements.checked_mul(size) == Some(contents.len()),
        None => bytes_count(contents) == Ok(elements),
    }
}

fn fits(spec: &ModelSpec, batch: &Batch<'_>) -> Result<(), String> {
    let inputs = &spec.signature.inputs;
    if inputs.len() != batch.inputs.len() {
        return Err(format!("it has {} inputs in place of {}", batch.inputs.len(), inputs.len()));
    }
    if batch.rows.is_empty() || batch.rows.contains(&0) {
        return Err("each of its requests has to have rows".to_owned());
    }
    for (spec, input) in inputs.iter().zip(batch.inputs) {
        let rows = spec.batch_axis().map(|axis| input.shape.get(axis).copied());
        let fits = rows.is_none_or(|rows| rows == Some(batch.rows_in_all() as usize));
        if input.shape.len() != spec.shape.len() || !fits {
            let shape = input.shape;
            return Err(format!("input {:?} of shape {shape:?} for other rows", spec.name));
        }
        if !is_whole(spec, input.shape, input.contents) {
            let (shape, bytes) = (input.shape, input.contents.len());
            return Err(format!("input {:?} of shape {shape:?} has {bytes} bytes", spec.name));
        }
    }
    Ok(())
}

/// What the process says its outputs are, checked: it could say anything.
fn answer(
    process: &Process,
    spec: &ModelSpec,
    batch: &Batch<'_>,
    ran: Ran,
) -> Result<Answer, String> {
    let specs = &spec.signature.outputs;
    if ran.failed.iter().any(|(request, _)| *request >= batch.rows.len()) {
        return Err("a request failed that was not asked for".to_owned());
    }
    let all_failed = ran.failed.len() >= batch.rows.len();
    if ran.outputs.len() != specs.len() && !(all_failed && ran.outputs.is_empty()) {
        return Err(format!("{} outputs came in place of {}", ran.outputs.len(), specs.len()));
    }
    let output = |(spec, tensor): (&TensorSpec, Tensor)| {
        let Tensor(arena, offset, length, shape) = tensor;
        let data = process.outputs().tensor(arena, offset, length);
        let data = data.filter(|data| is_whole(spec, &shape, data));
        let data = data.ok_or_else(|| format!("output {:?} lies nowhere", spec.name))?;
        Ok(OutputTensor { shape, data })
    };
    let outputs = specs.iter().zip(ran.outputs).map(output).collect::<Result<_, String>>()?;
    Ok(Answer { outputs, failed: ran.failed })
}
