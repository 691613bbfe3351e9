set local role counterfoil_chat;

create table chat.organisation (
  organisation_id     uuid primary key,
  name                text not null check (name <> '' and length(name) <= 120),
  tenant_id           text unique,
  log_origin          text not null unique,
  language            text not null default 'en' check (language in ('en', 'fr')),
  share_visitor_email boolean not null default true,
  create_agents       boolean not null default true,
  name_in_channel     boolean not null default true,
  created_at          timestamptz not null default now()
);
comment on table  chat.organisation is 'A tenant. Every row of every other table belongs to one.';
comment on column chat.organisation.organisation_id is 'Random id; leads every primary key.';
comment on column chat.organisation.name is 'Name of the organisation, chosen by its administrator; not a person.';
comment on column chat.organisation.tenant_id is 'Microsoft Entra tenant whose Teams users are its agents; null until connected.';
comment on column chat.organisation.log_origin is 'Origin line of the checkpoints of its audit log.';
comment on column chat.organisation.language is 'Language of cards and bot texts.';
comment on column chat.organisation.share_visitor_email is 'Whether the joined agent sees the visitor''s email and phone plain; otherwise masked.';
comment on column chat.organisation.create_agents is 'Whether the first Join of an unknown agent makes a profile.';
comment on column chat.organisation.name_in_channel is 'Whether the channel card bears the joiner''s name plain; otherwise masked.';
comment on column chat.organisation.created_at is 'When it was made.';

create table chat.widget (
  organisation_id uuid not null references chat.organisation,
  widget_id       uuid not null,
  public_key      text not null unique,
  name            text not null check (length(name) <= 120),
  sites           text[] not null default '{}',
  created_at      timestamptz not null default now(),
  primary key (organisation_id, widget_id)
);
comment on table  chat.widget is 'A place on a website where visitors may write.';
comment on column chat.widget.organisation_id is 'Tenant.';
comment on column chat.widget.widget_id is 'Random id.';
comment on column chat.widget.public_key is 'What the website puts into its script tag; not a secret.';
comment on column chat.widget.name is 'Name for administrators.';
comment on column chat.widget.sites is 'Origins that may embed the widget (frame-ancestors).';
comment on column chat.widget.created_at is 'When it was made.';

create table chat.visitor (
  organisation_id uuid not null references chat.organisation,
  visitor_id      uuid not null,
  widget_id       uuid not null,
  created_at      timestamptz not null default now(),
  primary key (organisation_id, visitor_id),
  foreign key (organisation_id, widget_id) references chat.widget
);
comment on table  chat.visitor is 'A visitor of a website who opened a conversation. His name and email are in euii.value.';
comment on column chat.visitor.organisation_id is 'Tenant.';
comment on column chat.visitor.visitor_id is 'Random id; also the id of his key.';
comment on column chat.visitor.widget_id is 'Where he came from.';
comment on column chat.visitor.created_at is 'First message.';

create table chat.agent (
  organisation_id       uuid not null references chat.organisation,
  agent_id              uuid not null,
  aad_object_id         text,
  teams_user_id         text,
  service_url           text,
  personal_conversation text,
  current_conversation  uuid,
  created_at            timestamptz not null default now(),
  primary key (organisation_id, agent_id),
  unique (organisation_id, aad_object_id)
);
comment on table  chat.agent is 'Profile of an agent. Name and email are in euii.value, the lookup by email in euii.lookup.';
comment on column chat.agent.organisation_id is 'Tenant.';
comment on column chat.agent.agent_id is 'Random id; also the id of the agent''s key.';
comment on column chat.agent.aad_object_id is 'Directory id, by which Join is claimed; a pseudonym, no name.';
comment on column chat.agent.teams_user_id is 'The bot service''s id of the user for this bot.';
comment on column chat.agent.service_url is 'Where to reach the user, from the last validated activity.';
comment on column chat.agent.personal_conversation is 'Id of the 1:1 chat with the bot.';
comment on column chat.agent.current_conversation is 'The conversation that what the agent types in the 1:1 chat goes to.';
comment on column chat.agent.created_at is 'First Join.';

create table chat.conversation (
  organisation_id uuid not null references chat.organisation,
  conversation_id uuid not null,
  widget_id       uuid not null,
  visitor_id      uuid not null,
  agent_id        uuid,
  state           text not null default 'waiting' check (state in ('waiting', 'active', 'closed')),
  language        text not null default 'en' check (language in ('en', 'fr')),
  notice_version  text not null check (length(notice_version) <= 40),
  opening_hash    bytea not null,
  last_seq        bigint not null default 0,
  claimed_by      text,
  claimed_at      timestamptz,
  card_thread     text,
  card_activity   text,
  card_service    text,
  intro_activity  text,
  opened_at       timestamptz not null default now(),
  closed_at       timestamptz,
  closed_by       text check (closed_by in ('visitor', 'agent', 'system')),
  primary key (organisation_id, conversation_id),
  foreign key (organisation_id, widget_id) references chat.widget,
  foreign key (organisation_id, visitor_id) references chat.visitor,
  foreign key (organisation_id, agent_id) references chat.agent,
  constraint conversation_agent_when_active check (state <> 'active' or agent_id is not null)
);
create unique index conversation_opening on chat.conversation (organisation_id, widget_id, opening_hash);
create unique index conversation_one_open on chat.conversation (organisation_id, widget_id, visitor_id) where state <> 'closed';
create index conversation_thread on chat.conversation (organisation_id, card_thread) where card_thread is not null;
create index conversation_open_of_agent on chat.conversation (organisation_id, agent_id) where state = 'active';
comment on table  chat.conversation is 'One chat between a visitor and the organisation.';
comment on column chat.conversation.organisation_id is 'Tenant.';
comment on column chat.conversation.conversation_id is 'Random id; also the id of the key of its messages.';
comment on column chat.conversation.widget_id is 'Where it was opened.';
comment on column chat.conversation.visitor_id is 'Who wrote.';
comment on column chat.conversation.agent_id is 'Who joined; null while waiting.';
comment on column chat.conversation.state is 'waiting, active or closed.';
comment on column chat.conversation.language is 'Language of the visitor.';
comment on column chat.conversation.notice_version is 'Version of the notice the visitor accepted.';
comment on column chat.conversation.opening_hash is 'SHA-256 of the id the browser gave the first message: a repeated request finds the same conversation.';
comment on column chat.conversation.last_seq is 'Number of the last event; raised under the row lock, so numbers have no gaps and are in commit order.';
comment on column chat.conversation.claimed_by is 'Directory id of the agent whose Join is being carried out.';
comment on column chat.conversation.claimed_at is 'When; a claim that is not completed lapses.';
comment on column chat.conversation.card_thread is 'Teams conversation of the channel card.';
comment on column chat.conversation.card_activity is 'Teams activity of the channel card.';
comment on column chat.conversation.card_service is 'Service URL the channel card was posted through.';
comment on column chat.conversation.intro_activity is 'Teams activity of the introduction in the 1:1 chat of the agent who holds it, or held it last.';
comment on column chat.conversation.opened_at is 'First message.';
comment on column chat.conversation.closed_at is 'End.';
comment on column chat.conversation.closed_by is 'Which party ended it.';

create table chat.session (
  organisation_id uuid not null,
  token_hash      bytea not null unique,
  visitor_id      uuid not null,
  conversation_id uuid not null,
  created_at      timestamptz not null default now(),
  expires_at      timestamptz not null,
  primary key (organisation_id, token_hash),
  foreign key (organisation_id, conversation_id) references chat.conversation
);
comment on table  chat.session is 'A visitor''s right to his own conversation.';
comment on column chat.session.organisation_id is 'Tenant.';
comment on column chat.session.token_hash is 'SHA-256 of the token; the token itself is not kept.';
comment on column chat.session.visitor_id is 'Whose it is.';
comment on column chat.session.conversation_id is 'The one conversation it is for.';
comment on column chat.session.created_at is 'Start.';
comment on column chat.session.expires_at is 'End.';

create table chat.event (
  organisation_id uuid not null,
  conversation_id uuid not null,
  seq             bigint not null check (seq > 0),
  kind            text not null check (kind in ('message', 'agent.joined', 'agent.left', 'closed')),
  by_party        text not null check (by_party in ('visitor', 'agent', 'system')),
  by_id           uuid not null,
  client_id       uuid not null,
  body            bytea,
  created_at      timestamptz not null default now(),
  primary key (organisation_id, conversation_id, seq),
  unique (organisation_id, conversation_id, client_id),
  foreign key (organisation_id, conversation_id) references chat.conversation,
  constraint event_body_of_messages check ((kind = 'message') = (body is not null))
);
comment on table  chat.event is 'The numbered events of a conversation.';
comment on column chat.event.organisation_id is 'Tenant.';
comment on column chat.event.conversation_id is 'Conversation.';
comment on column chat.event.seq is 'Number, from 1, without gaps.';
comment on column chat.event.kind is 'What happened.';
comment on column chat.event.by_party is 'Which party did it.';
comment on column chat.event.by_id is 'Which visitor or agent; zero for the system.';
comment on column chat.event.client_id is 'Id given by the sender; a repeat answers with the number of the first.';
comment on column chat.event.body is 'EUII message_body: sealed under the conversation''s key.';
comment on column chat.event.created_at is 'When it was accepted.';

create table chat.outbox (
  organisation_id uuid not null,
  delivery_id     bigint generated always as identity,
  conversation_id uuid not null,
  lane            text not null check (lane in ('card', 'personal')),
  kind            text not null check (kind in ('card.post', 'card.update', 'intro', 'say', 'closed', 'left', 'doubt')),
  seq             bigint not null,
  agent_id        uuid,
  state           text not null default 'waiting' check (state in ('waiting', 'sending', 'sent', 'failed', 'unknown')),
  attempts        int not null default 0,
  due_at          timestamptz not null default now(),
  reason          text not null default '',
  created_at      timestamptz not null default now(),
  done_at         timestamptz,
  primary key (organisation_id, delivery_id),
  foreign key (organisation_id, conversation_id) references chat.conversation
);
create index outbox_open on chat.outbox (organisation_id, conversation_id, lane, delivery_id) where state in ('waiting', 'sending');
create index outbox_due on chat.outbox (due_at) where state in ('waiting', 'sending');
comment on table  chat.outbox is 'What has to be delivered to Teams, in order within a conversation and lane.';
comment on column chat.outbox.organisation_id is 'Tenant.';
comment on column chat.outbox.delivery_id is 'Order of deliveries.';
comment on column chat.outbox.conversation_id is 'Conversation.';
comment on column chat.outbox.lane is 'card: the channel card; personal: the agent''s 1:1 chat.';
comment on column chat.outbox.kind is 'What to deliver; the content is read from its source when it is sent.';
comment on column chat.outbox.seq is 'Event it stems from.';
comment on column chat.outbox.agent_id is 'Receiver in the personal lane.';
comment on column chat.outbox.state is 'waiting, sending, sent, failed, or unknown when the outcome cannot be known.';
comment on column chat.outbox.attempts is 'Tries so far.';
comment on column chat.outbox.due_at is 'Next try, or end of the lease while sending.';
comment on column chat.outbox.reason is 'Why it failed: a code, never content.';
comment on column chat.outbox.created_at is 'When it was put there.';
comment on column chat.outbox.done_at is 'When it left.';

create table chat.installation (
  organisation_id uuid not null references chat.organisation,
  scope           text not null check (scope in ('team', 'personal')),
  place           text not null,
  channel_id      text not null default '',
  service_url     text not null,
  bot_id          text not null,
  updated_at      timestamptz not null default now(),
  primary key (organisation_id, scope, place)
);
comment on table  chat.installation is 'Where the app is installed in Teams.';
comment on column chat.installation.organisation_id is 'Tenant.';
comment on column chat.installation.scope is 'team or personal.';
comment on column chat.installation.place is 'Team id, or the user''s directory id.';
comment on column chat.installation.channel_id is 'Channel that receives the cards.';
comment on column chat.installation.service_url is 'From the last validated activity.';
comment on column chat.installation.bot_id is 'The bot''s own id there.';
comment on column chat.installation.updated_at is 'Last activity that said so.';

grant select, insert, update on chat.widget, chat.visitor, chat.agent, chat.conversation, chat.session, chat.outbox to counterfoil_service;
grant select, insert, update on chat.organisation to counterfoil_service;
grant select, insert, update, delete on chat.installation to counterfoil_service;
grant insert on chat.event to counterfoil_service;
grant select (organisation_id, conversation_id, seq, kind, by_party, by_id, client_id, created_at) on chat.event to counterfoil_service;
grant select on all tables in schema chat to counterfoil_access;
grant update on chat.outbox to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['organisation','widget','visitor','agent','conversation','session','event','outbox','installation'] loop
    execute format('alter table chat.%I enable row level security', t);
    execute format('alter table chat.%I force row level security', t);
    execute format('create policy own_organisation on chat.%I to counterfoil_service using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
    execute format('create policy functions on chat.%I to counterfoil_access using (true)', t);
    -- Foreign keys are checked as the table''s owner.
    execute format('create policy owner on chat.%I for select to counterfoil_chat using (true)', t);
  end loop;
end $$;
reset role;
