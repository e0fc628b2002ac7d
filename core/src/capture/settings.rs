//! The settings of a process, as a capture has them.
//!
//! What is written names every field of a configuration: whoever adds one has to say here whether decisions hang on it.

use std::time::Duration;

use super::format::{Draft, Fields};
use crate::config::{ConnectorConfig, GatewayConfig, GatewayUrl, TargetUrl};
use crate::http1::hop::HostRule;
use crate::secret::Keys;

pub(super) const GATEWAY: u8 = 0;
pub(super) const CONNECTOR: u8 = 1;

fn duration(draft: Draft, time: Duration) -> Draft {
    draft.number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn millis(fields: &mut Fields<'_>) -> Option<Duration> {
    Some(Duration::from_millis(fields.number()?))
}

pub(super) fn put_gateway(draft: Draft, config: &GatewayConfig) -> Draft {
    let GatewayConfig {
        keys: _,
        seals: _,
        connectors_max,
        memory_bytes,
        body_bytes_max,
        body_timeout,
        response_timeout,
        send_timeout,
        drain,
    } = config;
    let draft = draft.number(*connectors_max as u64).number(*memory_bytes as u64);
    let draft = draft.byte(u8::from(body_bytes_max.is_some())).number(body_bytes_max.unwrap_or(0));
    [body_timeout, response_timeout, send_timeout, drain]
        .into_iter()
        .fold(draft, |draft, time| duration(draft, *time))
}

pub(super) fn get_gateway(fields: &mut Fields<'_>, keys: Keys) -> Option<GatewayConfig> {
    let config = GatewayConfig::new(keys).connectors_max(fields.size()?).ok()?.memory(fields.size()?).ok()?;
    let (is_bounded, body_bytes_max) = (fields.flag()?, fields.number()?);
    let config = if is_bounded { config.body_max(body_bytes_max) } else { config };
    let config = config.body_timeout(millis(fields)?);
    let config = config.response_timeout(millis(fields)?);
    let config = config.send_timeout(millis(fields)?);
    Some(config.drain(millis(fields)?))
}

pub(super) fn put_connector(draft: Draft, config: &ConnectorConfig) -> Draft {
    let ConnectorConfig {
        keys: _,
        seals: _,
        gateway,
        target,
        host_rule,
        name,
        memory_bytes,
        drain,
        watches_peers,
    } = config;
    let draft = [gateway.to_string().as_str(), target.to_string().as_str(), host_rule.as_str(), name]
        .iter()
        .fold(draft, |draft, text| draft.bytes(text.as_bytes()));
    duration(draft.number(*memory_bytes as u64), *drain).byte(u8::from(*watches_peers))
}

pub(super) fn get_connector(fields: &mut Fields<'_>, keys: Keys) -> Option<ConnectorConfig> {
    let gateway = GatewayUrl::parse(fields.text()?).ok()?;
    let target = TargetUrl::parse(fields.text()?).ok()?;
    let config = ConnectorConfig::new(keys, gateway, target);
    let config = config.host_rule(HostRule::parse(fields.text()?)?);
    let config = config.name(fields.text()?).memory(fields.size()?).ok()?;
    let config = config.drain(millis(fields)?);
    Some(config.watches_peers(fields.flag()?))
}
