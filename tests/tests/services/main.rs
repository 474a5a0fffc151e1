//! The three services as their users meet them: real processes, over the network.

mod contract;
mod data_dir;
mod framing;
mod hang_ups;
mod headers;
mod interface;
mod life;
mod limits;
mod methods;
mod monitoring;
mod openapi;
mod page;
mod promise;
mod secrets;
mod settings;
mod started;
mod stores;

use e2e::proof;
