"""`sessions.*`: all handlers, and the subscriptions to Sessions."""

from __future__ import annotations

from ...connection import Call, NoParams, Params
from ...protocol import Key, Name
from ..rows import lowered
from ..service import answers
from .lists import ListParams, SessionLists


class SubscribeParams(ListParams):
    """With any parameter, the response contains the list too. `agent_id`: only its sessions."""


class MessagesParams(Params):
    """One session. There are no approvals, so `include_approvals` has no effect."""

    key: Key
    agent_id: Name | None = None
    include_approvals: bool | None = None


class SessionSubscriptions(SessionLists):
    @answers("sessions.subscribe", SubscribeParams)
    async def _subscribe(self, call: Call, params: SubscribeParams) -> object:
        await self.hub.subscribe_all(call.connection, lowered(params.agent_id))
        if not params.model_fields_set:
            return {"subscribed": True}
        return {"subscribed": True, "list": await self.list(call, params)}

    @answers("sessions.unsubscribe", NoParams)
    async def _unsubscribe(self, call: Call, params: NoParams) -> object:
        """Subscriptions to sessions by key are not affected."""
        self.hub.subscriptions.remove(call.connection)
        return {"subscribed": False}

    @answers("sessions.messages.subscribe", MessagesParams)
    async def _subscribe_messages(self, call: Call, params: MessagesParams) -> object:
        key = self.gateway.session_key(
            params.key, agent_id=params.agent_id, principal=call.principal
        )
        with self.hub.subscriptions.reserved(call.connection, key):
            await self.hub.subscribe(call.connection, key)
        return {"subscribed": True, "key": str(key), "agentId": key.agent_id}

    @answers("sessions.messages.unsubscribe", MessagesParams)
    async def _unsubscribe_messages(self, call: Call, params: MessagesParams) -> object:
        key = self.gateway.session_key(
            params.key, agent_id=params.agent_id, principal=call.principal
        )
        self.hub.subscriptions.remove(call.connection, key)
        return {"subscribed": False, "key": str(key), "agentId": key.agent_id}
