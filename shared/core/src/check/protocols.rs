//! The protocols behind well-known ports that negotiate TLS themselves.

/// Ports on which a client begins in clear text and negotiates TLS within its protocol, with that protocol. A TLS
/// listener breaks every connection.
/// <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>
/// <https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-tds/>
pub(crate) const NEGOTIATE_TLS: [(u16, &str); 4] =
    [(5432, "Postgres"), (5439, "Redshift"), (3306, "MySQL"), (1433, "SQL Server")];

/// The protocol of this port, if it negotiates TLS itself.
pub(crate) fn negotiating(port: u16) -> Option<&'static str> {
    NEGOTIATE_TLS.iter().find(|(known, _)| *known == port).map(|(_, protocol)| *protocol)
}
