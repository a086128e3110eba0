//! A network between two processes that can be cut.

use std::sync::{Arc, Mutex};
use symphony_wire::carrier::link::Endpoint;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

/// Passes on what comes to its address, unless it is cut.
pub(crate) struct Proxy {
    pub(crate) address: Endpoint,
    state: Arc<Mutex<State>>,
    _runtime: Runtime,
}

#[derive(Default)]
struct State {
    to: Option<Endpoint>,
    is_cut: bool,
    links: Vec<AbortHandle>,
    /// Connections that were passed on so far.
    passed: usize,
}

impl Proxy {
    /// A way to a process that may not have an address yet.
    pub(crate) fn start() -> Proxy {
        let runtime = super::roles::runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = Endpoint::Tcp(listener.local_addr().unwrap().to_string());
        let state = Arc::new(Mutex::new(State::default()));
        runtime.spawn(pass(listener, Arc::clone(&state)));
        Proxy { address, state, _runtime: runtime }
    }

    /// A way to this process.
    pub(crate) fn to(endpoint: &Endpoint) -> Proxy {
        let proxy = Proxy::start();
        proxy.leads_to(endpoint);
        proxy
    }

    pub(crate) fn leads_to(&self, endpoint: &Endpoint) {
        self.state.lock().unwrap().to = Some(endpoint.clone());
    }

    /// Ends every connection, and takes none until it is mended.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_cut = true;
        state.links.drain(..).for_each(|link| link.abort());
    }

    pub(crate) fn mend(&self) {
        self.state.lock().unwrap().is_cut = false;
    }

    pub(crate) fn passed(&self) -> usize {
        self.state.lock().unwrap().passed
    }
}

async fn pass(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((mut from, _)) = listener.accept().await {
        let mut of = state.lock().unwrap();
        let to = of.to.clone().filter(|_| !of.is_cut);
        let Some(Endpoint::Tcp(to)) = to else { continue };
        let link = tokio::spawn(async move {
            let Ok(mut to) = TcpStream::connect(to).await else { return };
            let _ = from.set_nodelay(true);
            let _ = to.set_nodelay(true);
            let _ = copy_bidirectional(&mut from, &mut to).await;
        });
        of.links.push(link.abort_handle());
        of.passed += 1;
    }
}
