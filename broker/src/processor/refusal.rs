//! Why a request is not done: the response code and the remark that the client shows its user. The only place
//! where outcomes of the parts below become codes of the protocol.

use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::{HeaderError, RemotingCommand};
use waspmq_protocol::name::NameError;
use waspmq_store::{AppendError, StoreError};

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What the client's code acts on.
    pub code: ResponseCode,
    /// What its user reads.
    pub remark: String,
}

impl Refusal {
    /// A refusal with this code and remark.
    pub fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into() }
    }

    /// The response that says so.
    pub fn into_response(self) -> RemotingCommand {
        RemotingCommand::response(self.code).with_remark(self.remark)
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        let code = match error {
            NameError::SendForbidden { .. } => ResponseCode::NO_PERMISSION,
            _ => ResponseCode::INVALID_PARAMETER,
        };
        Self::new(code, error.to_string())
    }
}

impl From<&AppendError> for Refusal {
    fn from(error: &AppendError) -> Self {
        let code = match error {
            AppendError::Poisoned { .. }
            | AppendError::DiskFull { .. }
            | AppendError::ReadOnly { .. }
            | AppendError::ShuttingDown => ResponseCode::SERVICE_NOT_AVAILABLE,
            AppendError::BodyTooLarge { .. }
            | AppendError::PropertiesTooLarge { .. }
            | AppendError::RecordTooLarge { .. } => ResponseCode::MESSAGE_ILLEGAL,
            AppendError::QueueDeleted { .. } => ResponseCode::TOPIC_NOT_EXIST,
            AppendError::FileUnavailable { .. } => ResponseCode::SYSTEM_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "reading the store failed");
        Self::new(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}
