//! The three services as their users meet them: real processes, over the network.

mod contract;
mod data_dir;
mod faults;
mod framing;
mod hang_ups;
mod headers;
mod interface;
mod life;
mod limits;
mod logs;
mod methods;
mod monitoring;
mod openapi;
mod page;
mod promise;
mod secrets;
mod settings;
mod started;
mod stores;
mod traces;

use e2e::proof;
