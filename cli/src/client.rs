//! `gesher client`: prints the banner, runs a connector until it is told to stop or the gateway refuses it.

use std::sync::{Arc, OnceLock};

use gesher_core::event::Event;
use gesher_core::hub::ConnectorHub;
use gesher_core::link::handshake::Refusal;

use crate::args::ClientArgs;
use crate::banner;
#[cfg(feature = "capture")]
use crate::capture;
use crate::exit::{Exit, Failure};
use crate::log::Log;
use crate::runtime::Service;
use crate::server::{ended, options};
use crate::settings::{self, Client};
use crate::words;

pub(crate) fn run(args: ClientArgs) -> Result<Exit, Failure> {
    let (log_args, runtime) = (args.log, args.runtime.runtime);
    #[cfg(feature = "capture")]
    let capture = args.capture.clone();
    let settings = Client::check(args)?;
    let log = Log::start(log_args)?.towards(&settings.gateway);
    for warning in &settings.warnings {
        log.warning(warning);
    }
    banner::print(&banner::client(
        &settings.gateway,
        &settings.target,
        settings.config.effective_host_rule(),
    ));

    let refused: Arc<OnceLock<Refusal>> = Arc::default();
    #[cfg(feature = "capture")]
    let process = match capture::recorder(capture, &log)? {
        Some(recorder) => gesher_core::capture::connector(
            settings.config,
            settings::seed()?,
            *settings::seed()?.bytes(),
            recorder,
        ),
        None => ConnectorHub::new(settings.config, settings::seed()?),
    };
    #[cfg(not(feature = "capture"))]
    let process = ConnectorHub::new(settings.config, settings::seed()?);
    let on_event = {
        let (log, refused) = (log.clone(), refused.clone());
        Arc::new(move |event| match event {
            Event::GaveUp { refusal } => drop(refused.set(refusal)),
            _ => log.event(event),
        })
    };
    let service = Service { process, listeners: Vec::new(), on_event };
    let exit = ended(runtime.run(vec![service], options(settings.drain)), &log)?;
    match refused.get() {
        Some(refusal) => Err(Failure::refused(words::refused(*refusal, &settings.gateway.to_string()))),
        None => Ok(exit),
    }
}
