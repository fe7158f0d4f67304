//! nftables by netlink: tables of address-translation rules, set in one atomic batch.
//!
//! - Reads: the kernel's nfnetlink interface (`linux/netfilter/nf_tables.h`); no `nft` program is needed.
//! - Rule: a table is replaced as a whole; the kernel applies all of it or nothing.
//! - Limits: IPv4, chains of type `nat`; at most 256 messages in one batch (one for each chain and rule).
//! - Not here: which rules a pod needs (`local/src/interception.rs`).

use netlink_bindings::nftables::{
    Chained, CmpOps, MetaKeys, Nfgenmsg, PayloadBase, PushExprAttrs, PushExprListAttrs, Registers, Request, VerdictCode,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};
use netlink_socket2::NetlinkSocket;
use std::ffi::CString;
use std::io;
use std::net::Ipv4Addr;

/// A table of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A chain of type `nat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where it is called.
    pub hook: Hook,
    /// Its rules; the first whose matches all hold decides.
    pub rules: Vec<Rule>,
}

/// Where packets meet a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Packets that come in, before routing.
    Prerouting,
    /// Packets that this namespace sends.
    Output,
}

/// Matches, all of which must hold, and what happens then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The matches.
    pub matches: Vec<Match>,
    /// What happens to the connection.
    pub action: Action,
}

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The packet mark is this.
    Mark(u32),
    /// The packet leaves by the link with this index.
    OutputLink(u32),
    /// The transport protocol (6 is TCP, 17 UDP).
    Protocol(u8),
    /// Source address within `address/prefix`.
    Source(Ipv4Addr, u8),
    /// Destination address within `address/prefix`.
    Destination(Ipv4Addr, u8),
    /// Destination address not within `address/prefix`.
    NotDestination(Ipv4Addr, u8),
    /// Destination port. Needs [`Match::Protocol`] before it.
    DestinationPort(u16),
    /// True for one in this many connections, at random.
    OneIn(u32),
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave the connection alone.
    Accept,
    /// Send it to this port of the local machine.
    Redirect(u16),
    /// Send it to this address and port.
    Translate(Ipv4Addr, u16),
}

impl Rule {
    /// A rule.
    #[must_use]
    pub fn new(matches: impl Into<Vec<Match>>, action: Action) -> Self {
        Self { matches: matches.into(), action }
    }
}

/// Puts the table into the calling thread's network namespace, replacing a table of that name.
///
/// # Errors
/// What the kernel reports; `ENOENT` or `EOPNOTSUPP` where it has no nf_tables.
pub fn replace(table: &Table) -> io::Result<()> {
    let mut socket = NetlinkSocket::new();
    let name = c_string(&table.name)?;
    let messages = 5 + table.chains.iter().map(|chain| 1 + chain.rules.len()).sum::<usize>();
    if messages > BATCH_MESSAGES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("nftables table {}: {messages} messages exceed {BATCH_MESSAGES_MAX}", table.name)));
    }
    let mut batch = Chained::new(socket.reserve_seq(u32::try_from(messages).unwrap_or(u32::MAX)));
    batch.request().op_batch_begin_do(&batch_header());
    // Declared first so that the deletion succeeds where there was none.
    batch.request().set_create().op_newtable_do(&header()).encode().push_name(&name);
    batch.request().op_deltable_do(&header()).encode().push_name(&name);
    batch.request().set_create().op_newtable_do(&header()).encode().push_name(&name);
    for chain in &table.chains {
        push_chain(&mut batch, &name, chain)?;
    }
    batch.request().op_batch_end_do(&batch_header());
    send(&mut socket, batch)
}

/// Deletes the table of that name, if there is one.
///
/// # Errors
/// What the kernel reports.
pub fn delete(name: &str) -> io::Result<()> {
    replace_with_nothing(&c_string(name)?)
}

/// Names of the IPv4 tables in the calling thread's network namespace.
///
/// # Errors
/// What the kernel reports.
pub fn tables() -> io::Result<Vec<String>> {
    let mut socket = NetlinkSocket::new();
    let request = Request::new().op_gettable_dump(&header());
    let mut replies = socket.request(&request)?;
    let mut names = Vec::new();
    while let Some(reply) = replies.recv() {
        let (_, attributes) = reply.map_err(|error| io::Error::other(error.to_string()))?;
        if let Ok(name) = attributes.get_name() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn replace_with_nothing(name: &CString) -> io::Result<()> {
    let mut socket = NetlinkSocket::new();
    let mut batch = Chained::new(socket.reserve_seq(4));
    batch.request().op_batch_begin_do(&batch_header());
    batch.request().set_create().op_newtable_do(&header()).encode().push_name(name);
    batch.request().op_deltable_do(&header()).encode().push_name(name);
    batch.request().op_batch_end_do(&batch_header());
    send(&mut socket, batch)
}

fn send(socket: &mut NetlinkSocket, batch: Chained<'_>) -> io::Result<()> {
    let finished = batch.finalize();
    let mut replies = socket.request_chained(&finished)?;
    replies.recv_all().map_err(|error| io::Error::new(error.as_io_error().kind(), format!("nftables: {error}")))
}

fn push_chain(batch: &mut Chained<'_>, table: &CString, chain: &Chain) -> io::Result<()> {
    let name = c_string(&chain.name)?;
    let hook = match chain.hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
    };
    batch
        .request()
        .set_create()
        .op_newchain_do(&header())
        .encode()
        .push_table(table)
        .push_name(&name)
        .nested_hook()
        .push_num(hook)
        .push_priority(PRIORITY_DSTNAT)
        .end_nested()
        .push_type(c"nat");
    for rule in &chain.rules {
        let mut request = batch.request().set_create().set_append().op_newrule_do(&header());
        let expressions = request.encode().push_table(table).push_chain(&name).nested_expressions();
        let expressions = rule.matches.iter().fold(expressions, push_match);
        push_action(expressions, rule.action).end_nested();
    }
    Ok(())
}

fn push_match<P: Pusher>(list: PushExprListAttrs<P>, condition: &Match) -> PushExprListAttrs<P> {
    match *condition {
        Match::Mark(mark) => compare(meta(list, MetaKeys::Mark), CmpOps::Eq, &mark.to_ne_bytes()),
        Match::OutputLink(index) => compare(meta(list, MetaKeys::Oif), CmpOps::Eq, &index.to_ne_bytes()),
        Match::Protocol(number) => compare(meta(list, MetaKeys::L4Proto), CmpOps::Eq, &[number]),
        Match::Source(address, prefix) => address_match(list, IPV4_SOURCE_OFFSET, (address, prefix), CmpOps::Eq),
        Match::Destination(address, prefix) => address_match(list, IPV4_DESTINATION_OFFSET, (address, prefix), CmpOps::Eq),
        Match::NotDestination(address, prefix) => address_match(list, IPV4_DESTINATION_OFFSET, (address, prefix), CmpOps::Neq),
        Match::DestinationPort(port) => {
            compare(payload(list, PayloadBase::TransportHeader, PORT_DESTINATION_OFFSET, 2), CmpOps::Eq, &port.to_be_bytes())
        }
        Match::OneIn(count) => {
            let list = list
                .nested_elem()
                .nested_data_numgen()
                // The description of this attribute lacks its byte order; the kernel reads it big-endian as everywhere.
                .push_dreg((Registers::Reg1 as u32).to_be())
                .push_modulus(count.max(1))
                .push_type(NUMGEN_RANDOM)
                .end_nested()
                .end_nested();
            compare(list, CmpOps::Eq, &0u32.to_ne_bytes())
        }
    }
}

fn push_action<P: Pusher>(list: PushExprListAttrs<P>, action: Action) -> PushExprListAttrs<P> {
    match action {
        Action::Accept => list
            .nested_elem()
            .nested_data_immediate()
            .push_dreg(Registers::RegVerdict as u32)
            .nested_data()
            .nested_verdict()
            .push_code(VerdictCode::Accept as u32)
            .end_nested()
            .end_nested()
            .end_nested()
            .end_nested(),
        Action::Redirect(port) => {
            let mut element = immediate(list, Registers::Reg1, &port.to_be_bytes()).nested_elem();
            push_redirect(&mut element);
            element.end_nested()
        }
        Action::Translate(address, port) => {
            let list = immediate(list, Registers::Reg1, &address.octets());
            let list = immediate(list, Registers::Reg2, &port.to_be_bytes());
            list.nested_elem()
                .nested_data_nat()
                .push_type(NAT_DESTINATION)
                .push_family(u32::from(FAMILY_IPV4))
                .push_reg_addr_min(Registers::Reg1 as u32)
                .push_reg_proto_min(Registers::Reg2 as u32)
                .end_nested()
                .end_nested()
        }
    }
}

/// The `redir` expression, which the kernel's YAML description lacks: its port is in register 1.
fn push_redirect<P: Pusher>(element: &mut PushExprAttrs<P>) {
    let buffer = element.as_vec_mut();
    push_header(buffer, EXPR_NAME, 6);
    buffer.extend(b"redir\0");
    let data = push_nested_header(buffer, EXPR_DATA);
    push_header(buffer, REDIR_REG_PROTO_MIN, 4);
    buffer.extend((Registers::Reg1 as u32).to_be_bytes());
    finalize_nested_header(buffer, data);
}

fn address_match<P: Pusher>(list: PushExprListAttrs<P>, offset: u32, network: (Ipv4Addr, u8), op: CmpOps) -> PushExprListAttrs<P> {
    let mask = u32::MAX.checked_shl(32 - u32::from(network.1.min(32))).unwrap_or(0);
    let list = payload(list, PayloadBase::NetworkHeader, offset, 4)
        .nested_elem()
        .nested_data_bitwise()
        .push_sreg(Registers::Reg1 as u32)
        .push_dreg(Registers::Reg1 as u32)
        .push_len(4)
        .nested_mask()
        .push_value(&mask.to_be_bytes())
        .end_nested()
        .nested_xor()
        .push_value(&[0; 4])
        .end_nested()
        .end_nested()
        .end_nested();
    compare(list, op, &(network.0.to_bits() & mask).to_be_bytes())
}

fn meta<P: Pusher>(list: PushExprListAttrs<P>, key: MetaKeys) -> PushExprListAttrs<P> {
    list.nested_elem().nested_data_meta().push_dreg(Registers::Reg1 as u32).push_key(key as u32).end_nested().end_nested()
}

fn payload<P: Pusher>(list: PushExprListAttrs<P>, base: PayloadBase, offset: u32, bytes: u32) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_payload()
        .push_dreg(Registers::Reg1 as u32)
        .push_base(base as u32)
        .push_offset(offset)
        .push_len(bytes)
        .end_nested()
        .end_nested()
}

fn compare<P: Pusher>(list: PushExprListAttrs<P>, op: CmpOps, value: &[u8]) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_cmp()
        .push_sreg(Registers::Reg1 as u32)
        .push_op(op as u32)
        .nested_data()
        .push_value(value)
        .end_nested()
        .end_nested()
        .end_nested()
}

fn immediate<P: Pusher>(list: PushExprListAttrs<P>, register: Registers, value: &[u8]) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_immediate()
        .push_dreg(register as u32)
        .nested_data()
        .push_value(value)
        .end_nested()
        .end_nested()
        .end_nested()
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name with a NUL byte"))
}

fn header() -> Nfgenmsg {
    Nfgenmsg { nfgen_family: FAMILY_IPV4, ..Default::default() }
}

fn batch_header() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.set_res_id(SUBSYSTEM_NFTABLES);
    header
}

/// `NFPROTO_IPV4`.
const FAMILY_IPV4: u8 = 2;
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM_NFTABLES: u16 = 10;
/// Where the kernel runs destination translation.
const PRIORITY_DSTNAT: i32 = -100;
/// `NFT_NAT_DNAT`.
const NAT_DESTINATION: u32 = 1;
/// `NFT_NG_RANDOM`.
const NUMGEN_RANDOM: u32 = 1;
/// `NFTA_EXPR_NAME`.
const EXPR_NAME: u16 = 1;
/// `NFTA_EXPR_DATA`.
const EXPR_DATA: u16 = 2;
/// `NFTA_REDIR_REG_PROTO_MIN`.
const REDIR_REG_PROTO_MIN: u16 = 1;
/// Offset of the source address in the IPv4 header.
const IPV4_SOURCE_OFFSET: u32 = 12;
/// Offset of the destination address in the IPv4 header.
const IPV4_DESTINATION_OFFSET: u32 = 16;
/// Offset of the destination port in the TCP and UDP headers.
const PORT_DESTINATION_OFFSET: u32 = 2;
/// A batch's acknowledgements must fit the socket's receive buffer.
const BATCH_MESSAGES_MAX: usize = 4096;
