//! The OpenAPI document: made here from the routes and from the types that they take and give, committed as `docs/openapi.json`, and
//! served from there ([`serve`]).
//!
//! It is made by a test, so that nothing of what makes it is in the program. OpenAPI 3.1 has JSON Schema of 2020 for its types, which is
//! what `schemars` derives, with the comments on them; so the types are written down once. Every route stands in a list below; that
//! none is missing, in either place, and that the committed document is what would be made now, are tests too.

use super::embedded::always;
use axum::http::HeaderMap;
use axum::response::Response;

/// `GET /api/v1/openapi.json`.
pub(super) async fn serve(headers: HeaderMap) -> Response {
    always("openapi.json").send(&headers, "no-cache")
}

#[cfg(test)]
mod tests {
    use super::super::auth::oidc;
    use super::super::error::ErrorBody;
    use super::super::status_page::{KumaBeats, KumaPage, PageStatus, PageSummary, Shields, StatusPage, manage};
    use super::super::types::schemas::TriedForm;
    use super::super::types::{
        AlertChannel, AlertRule, Audited, Bars, ChannelNotice, ChannelTested, Code, DashboardStats, DeadLetter, Document, Done, HealthBody,
        Heartbeat, Imported, Incident, Installation, Login, MadeToken, Maintenance, Me, Monitor, MonitorMetrics, NewAlertRule, NewComment,
        NewMember, NewPassword, NewSilence, NewToken, NewUser, Node, Order, Overview, OwnPassword, Page, PublicPage, ReadyBody, Recovery,
        Reloaded, RuleTested, SecondFactor, SetUp, SignIn, SignedIn, Silence, Subscriber, Tenant, TenantInfo, Token, Uptime, User,
        UserPatch,
    };
    use super::super::{
        Access, api, audit, channels, dead_letters, documents, incidents, periods, push, routes, silences, stream, transfer, uptime,
    };
    use axum::http::Method;
    use schemars::generate::SchemaSettings;
    use schemars::{JsonSchema, Schema, SchemaGenerator};
    use serde_json::{Map, Value, json};
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    type Make = fn(&mut SchemaGenerator) -> Schema;

    /// What makes schemas of types: of what is answered, where a field is there unless it may be left out; and of what is taken, where one that
    /// has a default need not be.
    struct Schemas {
        given: SchemaGenerator,
        taken: SchemaGenerator,
    }

    impl Schemas {
        fn new() -> Self {
            let made = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            });
            Self { given: made.clone().for_serialize().into_generator(), taken: made.for_deserialize().into_generator() }
        }

        /// All of them, by name. A type that is both given and taken has one form, or it would need two names.
        fn definitions(mut self) -> Map<String, Value> {
            let mut all = self.given.take_definitions(true);
            for (name, taken) in self.taken.take_definitions(true) {
                if let Some(given) = all.insert(name.clone(), taken.clone()) {
                    assert_eq!(given, taken, "{name} is given in another form than it is taken");
                }
            }
            all
        }
    }

    /// What an answer consists of.
    enum Form {
        Json(Make),
        Text(&'static str),
        /// Nothing but another place to go to.
        Elsewhere,
        /// A page for people. What it refuses it says in such a page, or in the form of errors.
        Html,
        /// A page for people, or the same for programs. What it refuses it says in the same two forms.
        Page(Make),
    }

    /// What one method of one path takes and gives.
    struct Operation {
        method: Method,
        path: &'static str,
        summary: &'static str,
        query: Option<Make>,
        body: Option<Make>,
        /// When it is done.
        status: u16,
        form: Form,
        /// Errors that neither its access nor its form tells.
        errors: &'static [u16],
    }

    impl Operation {
        fn query<T: JsonSchema>(mut self) -> Self {
            self.query = Some(T::json_schema);
            self
        }

        fn body<T: JsonSchema>(mut self) -> Self {
            self.body = Some(SchemaGenerator::subschema_for::<T>);
            self
        }

        fn errors(mut self, errors: &'static [u16]) -> Self {
            self.errors = errors;
            self
        }
    }

    fn json<T: JsonSchema>(method: Method, path: &'static str, status: u16, summary: &'static str) -> Operation {
        let form = Form::Json(SchemaGenerator::subschema_for::<T>);
        Operation { method, path, summary, query: None, body: None, status, form, errors: &[] }
    }

    fn text(method: Method, path: &'static str, kind: &'static str, summary: &'static str) -> Operation {
        Operation { method, path, summary, query: None, body: None, status: 200, form: Form::Text(kind), errors: &[] }
    }

    /// A page for people.
    fn html(method: Method, path: &'static str, status: u16, summary: &'static str) -> Operation {
        Operation { method, path, summary, query: None, body: None, status, form: Form::Html, errors: &[] }
    }

    /// Sends a browser elsewhere.
    fn elsewhere(path: &'static str, summary: &'static str) -> Operation {
        Operation { method: Method::GET, path, summary, query: None, body: None, status: 303, form: Form::Elsewhere, errors: &[404] }
    }

    /// What a public status page is, in some form.
    fn open_json<T: JsonSchema>(path: &'static str, summary: &'static str) -> Operation {
        json::<T>(Method::GET, path, 200, summary).errors(&[401, 404, 429])
    }

    fn badge(path: &'static str, summary: &'static str) -> Operation {
        text(Method::GET, path, "image/svg+xml", summary).errors(&[400, 404, 429])
    }

    /// Every route, described.
    #[rustfmt::skip]
    fn described() -> Vec<Operation> {
        const GET: Method = Method::GET;
        const POST: Method = Method::POST;
        const PUT: Method = Method::PUT;
        const PATCH: Method = Method::PATCH;
        const DELETE: Method = Method::DELETE;
        const PLAIN: &str = "text/plain";
        vec![
            text(GET, "/", "text/html", "The page"),
            text(GET, "/assets/{file}", "application/octet-stream", "A file of the page"),
            json::<HealthBody>(GET, "/health", 200, "Whether the process lives"),
            json::<HealthBody>(GET, "/healthz", 200, "Whether the process lives"),
            json::<ReadyBody>(GET, "/ready", 200, "Whether the node does its work"),
            json::<ReadyBody>(GET, "/readyz", 200, "Whether the node does its work"),
            text(GET, "/metrics", PLAIN, "Prometheus' text format"),
            json::<push::KumaAnswer>(GET, "/api/push/{token}", 200, "A push in Uptime Kuma's form").query::<push::KumaQuery>(),
            json::<push::KumaAnswer>(POST, "/api/push/{token}", 200, "A push in Uptime Kuma's form").query::<push::KumaQuery>(),
            text(GET, "/ping/{token}", PLAIN, "A push in Healthchecks' form: done well"),
            text(POST, "/ping/{token}", PLAIN, "A push in Healthchecks' form: done well"),
            text(GET, "/ping/{token}/{action}", PLAIN, "A push in Healthchecks' form: start, fail, log, or an exit code").errors(&[400]),
            text(POST, "/ping/{token}/{action}", PLAIN, "A push in Healthchecks' form: start, fail, log, or an exit code").errors(&[400]),
            text(GET, "/status.css", "text/css", "What public status pages look like"),
            Operation { form: Form::Page(SchemaGenerator::subschema_for::<StatusPage>), ..text(GET, "/status/{page}", "text/html", "A public status page; with `.json` behind its name the same for programs") }.errors(&[401, 429]),
            text(GET, "/status/{page}/rss", "application/rss+xml", "What happened, as RSS 2.0").errors(&[401, 429]),
            text(GET, "/status/{page}/atom", "application/atom+xml", "What happened, as Atom").errors(&[401, 429]),
            html(POST, "/status/{page}/subscribers", 202, "Asks to be told what a public status page says, by a form with an `address`, or the URL of a `webhook`").errors(&[400, 401]),
            html(GET, "/status/{page}/subscription/{link}", 200, "What a link in a letter to a subscriber does, and a button that does it").errors(&[429]),
            html(POST, "/status/{page}/subscription/{link}", 200, "Does it: confirms a subscription, or ends it (RFC 8058)"),
            open_json::<PageSummary>("/status/{page}/api/v2/summary.json", "A public status page in Statuspage's form"),
            open_json::<PageStatus>("/status/{page}/api/v2/status.json", "Its first sentence in Statuspage's form"),
            open_json::<PageSummary>("/api/v2/summary.json", "The page of the domain that was asked for, in Statuspage's form"),
            open_json::<PageStatus>("/api/v2/status.json", "Its first sentence in Statuspage's form"),
            open_json::<KumaPage>("/api/status-page/{page}", "A public status page in Uptime Kuma's form"),
            open_json::<KumaBeats>("/api/status-page/heartbeat/{page}", "Its heartbeats in Uptime Kuma's form"),
            badge("/api/badge/{id}/{measure}", "A badge in Uptime Kuma's form: status, uptime, ping, avg-response, cert-exp or response"),
            badge("/api/badge/{id}/{measure}/{window}", "The same over so many hours, or a window such as 7d"),
            badge("/api/v1/endpoints/{key}/health/badge.svg", "A badge in Gatus' form: up, down, or not known"),
            json::<Shields>(GET, "/api/v1/endpoints/{key}/health/badge.shields", 200, "The same for shields.io").errors(&[429]),
            badge("/api/v1/endpoints/{key}/uptimes/{window}/badge.svg", "A badge in Gatus' form: uptime over 1h, 24h, 7d or 30d"),
            badge("/api/v1/endpoints/{key}/response-times/{window}/badge.svg", "A badge in Gatus' form: the median response time over 1h, 24h, 7d or 30d"),
            json::<Value>(GET, "/api/v1/openapi.json", 200, "This document"),
            json::<SignIn>(GET, "/api/v1/auth", 200, "What signing in takes here"),
            json::<SignedIn>(POST, "/api/v1/auth/login", 200, "Signs in: a session in a cookie for the page, as a bearer token for others").body::<Login>().errors(&[401, 403]),
            json::<SignedIn>(POST, "/api/v1/auth/setup", 200, "Makes the first user, with the code that the start printed").body::<SetUp>().errors(&[401, 404, 409]),
            elsewhere("/api/v1/auth/oidc", "Sends the browser to the OpenID Connect issuer, to sign in there"),
            elsewhere("/api/v1/auth/oidc/callback", "The browser comes back from there, and is signed in").query::<oidc::Back>(),
            json::<Done>(POST, "/api/v1/auth/logout", 200, "Ends the session that asks"),
            json::<Me>(GET, "/api/v1/me", 200, "Who asks"),
            json::<Page<Tenant>>(GET, "/api/v1/tenants", 200, "The tenants that the caller may act in").query::<channels::NoQuery>(),
            json::<TenantInfo>(GET, "/api/v1/tenant/info", 200, "The tenant that the request is meant for").query::<channels::NoQuery>(),
            json::<Done>(PUT, "/api/v1/me/password", 200, "Sets one's own password; every other session of the account ends").body::<NewPassword>(),
            json::<SecondFactor>(POST, "/api/v1/me/second-factor", 200, "Begins a second factor").body::<OwnPassword>().errors(&[409]),
            json::<Recovery>(PUT, "/api/v1/me/second-factor", 200, "Confirms it with its first code").body::<Code>().errors(&[409]),
            json::<Done>(POST, "/api/v1/me/second-factor/remove", 200, "Removes it").body::<OwnPassword>(),
            json::<Page<User>>(GET, "/api/v1/users", 200, "The tenant's members, by name").query::<channels::NoQuery>(),
            json::<User>(POST, "/api/v1/users", 201, "Makes a user").body::<NewUser>().errors(&[409]),
            json::<User>(POST, "/api/v1/members", 201, "Makes somebody with an account in another tenant a member").body::<NewMember>().errors(&[404, 409]),
            json::<User>(PATCH, "/api/v1/users/{id}", 200, "Changes a user").body::<UserPatch>().errors(&[409]),
            json::<Done>(DELETE, "/api/v1/users/{id}", 200, "Removes a user").errors(&[409]),
            json::<Page<Token>>(GET, "/api/v1/tokens", 200, "The tenant's tokens").query::<channels::NoQuery>(),
            json::<MadeToken>(POST, "/api/v1/tokens", 201, "Makes a token and shows it, this once").body::<NewToken>().errors(&[409]),
            json::<Done>(DELETE, "/api/v1/tokens/{id}", 200, "Ends a token"),
            json::<Page<Audited>>(GET, "/api/v1/audit", 200, "Who changed what, newest first").query::<audit::AuditQuery>(),
            json::<Installation>(GET, "/api/v1/about", 200, "What this installation is"),
            json::<Page<Node>>(GET, "/api/v1/nodes", 200, "The nodes that hold something, for the tenant `default`").query::<channels::NoQuery>().errors(&[403]),
            json::<Uptime>(GET, "/api/v1/uptime", 200, "The days of every monitor, or of one").query::<uptime::UptimeQuery>().errors(&[404]),
            json::<Bars>(GET, "/api/v1/bars", 200, "The days of every monitor, a letter each").query::<uptime::BarsQuery>(),
            json::<Overview>(GET, "/api/v1/overview", 200, "Every monitor in brief").query::<channels::NoQuery>(),
            json::<Page<Monitor>>(GET, "/api/v1/monitors", 200, "Monitors by name").query::<api::MonitorsQuery>(),
            text(GET, "/api/v1/export", "application/yaml", "The tenant's whole configuration as a file; secrets are variables in it").query::<channels::NoQuery>(),
            json::<Imported>(POST, "/api/v1/import", 200, "Makes and changes what a file says, all of it or nothing").query::<transfer::ImportQuery>().body::<Value>().errors(&[409, 412, 422]),
            json::<Page<Document>>(GET, "/api/v1/documents", 200, "What was made over the API, in force or not").query::<channels::NoQuery>(),
            json::<Monitor>(POST, "/api/v1/monitors", 201, "Makes a monitor: one item of the configuration file").body::<Value>().errors(&[409, 422]),
            json::<Monitor>(GET, "/api/v1/monitors/{id}", 200, "One, by public id or name"),
            json::<TriedForm>(POST, "/api/v1/monitors/{id}", 200, "With `test` as id: one attempt with the monitor that is sent; nothing is stored").body::<Value>().errors(&[409, 422]),
            json::<Monitor>(PUT, "/api/v1/monitors/{id}", 200, "Another in the place of one that was made over the API").body::<Value>().errors(&[409, 412, 422]),
            json::<Monitor>(PATCH, "/api/v1/monitors/{id}", 200, "Some of one different, as RFC 7396 has it").body::<Value>().errors(&[409, 412, 422]),
            json::<Done>(DELETE, "/api/v1/monitors/{id}", 200, "Removes one; its history stays").errors(&[409, 412]),
            json::<TriedForm>(POST, "/api/v1/monitors/{id}/test", 200, "One attempt with it as it is, or as the body says it would be; nothing is stored").body::<Value>().errors(&[409, 422]),
            json::<Monitor>(POST, "/api/v1/monitors/{id}/pause", 200, "Does not watch it for now").errors(&[409, 412]),
            json::<Monitor>(POST, "/api/v1/monitors/{id}/resume", 200, "Watches it again").errors(&[409, 412]),
            json::<Page<Heartbeat>>(GET, "/api/v1/monitors/{id}/heartbeats", 200, "Its heartbeats, newest first").query::<api::HeartbeatsQuery>(),
            json::<MonitorMetrics>(GET, "/api/v1/monitors/{id}/metrics", 200, "Its history").query::<periods::MetricsQuery>(),
            json::<Page<Incident>>(GET, "/api/v1/incidents", 200, "Incidents, newest first").query::<incidents::IncidentsQuery>().errors(&[404]),
            json::<Incident>(GET, "/api/v1/incidents/{id}", 200, "One, with its timeline and notices"),
            json::<Done>(POST, "/api/v1/incidents/{id}/acknowledge", 202, "I am on it").body::<Order>().errors(&[409]),
            json::<Done>(POST, "/api/v1/incidents/{id}/unacknowledge", 202, "I am not").body::<Order>().errors(&[409]),
            json::<Done>(POST, "/api/v1/incidents/{id}/resolve", 202, "It is over").body::<Order>().errors(&[409]),
            json::<Done>(POST, "/api/v1/incidents/{id}/comments", 201, "Puts words on the timeline").body::<NewComment>(),
            json::<Page<Silence>>(GET, "/api/v1/silences", 200, "Silences, newest first").query::<silences::SilencesQuery>(),
            json::<Silence>(POST, "/api/v1/silences", 201, "Begins a silence").body::<NewSilence>().errors(&[409]),
            json::<Done>(DELETE, "/api/v1/silences/{id}", 200, "Ends a silence now"),
            json::<Page<DeadLetter>>(GET, "/api/v1/dead-letters", 200, "Notices that were given up, newest first").query::<dead_letters::DeadLettersQuery>(),
            json::<Done>(POST, "/api/v1/dead-letters/{id}/retry", 202, "Makes one due again"),
            json::<DashboardStats>(GET, "/api/v1/dashboard/stats", 200, "Everything in six numbers").query::<channels::NoQuery>(),
            json::<Page<AlertRule>>(GET, "/api/v1/alert-rules", 200, "The rules of all monitors").query::<channels::NoQuery>(),
            json::<AlertRule>(POST, "/api/v1/alert-rules", 201, "Makes a rule of a monitor that was made over the API").body::<NewAlertRule>().errors(&[404, 409, 412, 422]),
            json::<AlertRule>(GET, "/api/v1/alert-rules/{id}", 200, "One rule"),
            json::<AlertRule>(PUT, "/api/v1/alert-rules/{id}", 200, "Another in its place; what is not given of it stays").body::<NewAlertRule>().errors(&[409, 412, 422]),
            json::<Done>(DELETE, "/api/v1/alert-rules/{id}", 200, "Removes one").errors(&[409, 412, 422]),
            json::<RuleTested>(POST, "/api/v1/alert-rules/{id}/test", 200, "Whether it would be told to anybody, without telling it"),
            json::<Page<AlertChannel>>(GET, "/api/v1/alert-channels", 200, "The channels of the configuration in force").query::<channels::NoQuery>(),
            json::<AlertChannel>(POST, "/api/v1/alert-channels", 201, "Makes a channel: one item of the configuration file").body::<Value>().errors(&[409, 422]),
            json::<AlertChannel>(PUT, "/api/v1/alert-channels/{name}", 200, "Another in the place of one that was made over the API").body::<Value>().errors(&[409, 412, 422]),
            json::<Done>(DELETE, "/api/v1/alert-channels/{name}", 200, "Removes one").errors(&[409, 412]),
            json::<Page<Maintenance>>(GET, "/api/v1/maintenance", 200, "Maintenance windows, by name").query::<documents::MaintenanceQuery>(),
            json::<Maintenance>(POST, "/api/v1/maintenance", 201, "Announces work: one item of the configuration file").body::<Value>().errors(&[409, 422]),
            json::<Maintenance>(PUT, "/api/v1/maintenance/{name}", 200, "Another in the place of one that was made over the API").body::<Value>().errors(&[409, 412, 422]),
            json::<Done>(DELETE, "/api/v1/maintenance/{name}", 200, "Removes one").errors(&[409, 412]),
            json::<Page<PublicPage>>(GET, "/api/v1/status-pages", 200, "Public status pages, by name").query::<channels::NoQuery>(),
            json::<PublicPage>(POST, "/api/v1/status-pages", 201, "Makes a status page: one item of the configuration file").body::<Value>().errors(&[409, 422]),
            json::<PublicPage>(GET, "/api/v1/status-pages/{name}", 200, "One"),
            json::<PublicPage>(PUT, "/api/v1/status-pages/{name}", 200, "Another in the place of one that was made over the API").body::<Value>().errors(&[409, 412, 422]),
            json::<Done>(DELETE, "/api/v1/status-pages/{name}", 200, "Removes one").errors(&[409, 412]),
            json::<PublicPage>(POST, "/api/v1/status-pages/{name}/messages", 201, "Says one thing more on it: one of `messages`; now, if no `at` is given").body::<Value>().errors(&[409, 412, 422]),
            json::<PublicPage>(PUT, "/api/v1/status-pages/{name}/messages", 200, "All that it says: `messages`; what has no `at` is of now").body::<Value>().errors(&[409, 412, 422]),
            json::<Page<Subscriber>>(GET, "/api/v1/status-pages/{name}/subscribers", 200, "Who is told what it says").query::<manage::SubscribersQuery>(),
            json::<Done>(DELETE, "/api/v1/status-pages/{name}/subscribers/{id}", 200, "Forgets one"),
            text(POST, "/api/v1/status-pages/{name}/preview", "text/html", "What it would look like; nothing is stored").body::<Value>().errors(&[409, 422]),
            json::<Page<ChannelNotice>>(GET, "/api/v1/alert-channels/{name}/notices", 200, "What it got lately, what waits for it, what it did not take").query::<channels::NoticesQuery>(),
            json::<ChannelTested>(POST, "/api/v1/alert-channels/{name}/test", 200, "Sends one message now").errors(&[502]),
            json::<Done>(POST, "/api/v1/alert-channels/{name}/retry", 202, "Has what waits for it tried at once"),
            text(GET, "/api/v1/stream/events", "text/event-stream", "The live stream").query::<stream::StreamQuery>(),
            json::<Reloaded>(POST, "/-/reload", 200, "Reads the configuration again, for the tenant `default`").errors(&[422]),
        ]
    }

    /// Every status that is an error somewhere: they all have one form.
    const ERRORS: [u16; 12] = [400, 401, 403, 404, 409, 412, 413, 422, 429, 500, 502, 503];

    /// The names in braces of a path.
    fn parameters(path: &str) -> impl Iterator<Item = &str> {
        path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
    }

    /// Parameters of a query, from the type that it is read into.
    fn query_of(make: Make, schemas: &mut Schemas) -> Vec<Value> {
        let schema = make(&mut schemas.taken).to_value();
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let one = |(name, of): (&String, &Value)| {
            let mut of = of.clone();
            let description = of.as_object_mut().and_then(|of| of.remove("description"));
            // What is not given is not null: a query has no such thing.
            if let Some(kinds) = of["type"].as_array_mut() {
                kinds.retain(|kind| kind != "null");
            }
            if let Some(first) = of["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null")).cloned() {
                of = first;
            }
            json!({ "in": "query", "name": name, "required": required.contains(&name.as_str()), "schema": of, "description": description.unwrap_or(json!("")) })
        };
        schema["properties"].as_object().into_iter().flatten().map(one).collect()
    }

    /// What may be answered instead of what was asked for.
    fn errors_of(operation: &Operation, access: Access, query: bool) -> BTreeSet<u16> {
        let mut errors: BTreeSet<u16> = operation.errors.iter().copied().chain([500, 503]).collect();
        let changes = !operation.method.is_safe();
        errors.extend((query || operation.body.is_some()).then_some(400));
        errors.extend(operation.body.is_some().then_some(413));
        errors.extend(operation.path.contains('{').then_some(404));
        match access {
            Access::Open => errors.extend(changes.then_some(429)),
            Access::PushToken => errors.extend([429]),
            Access::Metrics => errors.extend([401]),
            Access::Known(_) => {
                // 403 also where the header names a tenant that is not the caller's.
                errors.extend([401, 400, 403]);
                errors.extend(changes.then_some(429));
            }
        }
        errors
    }

    const fn word(access: Access) -> &'static str {
        match access {
            Access::Open => "open",
            Access::PushToken => "push_token",
            Access::Metrics => "metrics_token",
            Access::Known(role) => role.as_str(),
        }
    }

    fn operation_of(operation: &Operation, access: Access, schemas: &mut Schemas) -> Value {
        let mut taken: Vec<Value> = parameters(operation.path)
            .map(|name| json!({ "in": "path", "name": name, "required": true, "schema": { "type": "string" } }))
            .collect();
        let query = operation.query.map(|make| query_of(make, schemas)).unwrap_or_default();
        let errors = errors_of(operation, access, !query.is_empty() || operation.query.is_some());
        taken.extend(query);
        let content = match operation.form {
            Form::Json(make) => json!({ "application/json": { "schema": make(&mut schemas.given) } }),
            // What is text on the wire and is read as what it says.
            Form::Text(kind @ "application/yaml") => json!({ kind: { "schema": { "type": "object" } } }),
            Form::Text(kind) => json!({ kind: { "schema": { "type": "string" } } }),
            Form::Elsewhere => json!({}),
            Form::Html => json!({ "text/html": { "schema": { "type": "string" } } }),
            Form::Page(make) => {
                json!({ "text/html": { "schema": { "type": "string" } }, "application/json": { "schema": make(&mut schemas.given) } })
            }
        };
        let mut answers = Map::new();
        answers.insert(operation.status.to_string(), json!({ "description": "Done", "content": content }));
        for status in errors {
            // A node that is not ready says so in the form of its other answer; so do receivers of pushes.
            let own = matches!(operation.path, "/ready" | "/readyz") || access == Access::PushToken;
            let answer = json!({ "description": reason(status), "content": content });
            let shared = json!({ "$ref": format!("#/components/responses/{status}") });
            let page = json!({ "text/html": { "schema": { "type": "string" } }, "application/json": { "schema": schemas.given.subschema_for::<ErrorBody>() } });
            let refused = json!({ "description": reason(status), "content": page });
            let told = match operation.form {
                _ if own => answer,
                Form::Page(_) | Form::Html => refused,
                Form::Json(_) | Form::Text(_) | Form::Elsewhere => shared,
            };
            answers.insert(status.to_string(), told);
        }
        let security = match access {
            Access::Open | Access::PushToken => json!([]),
            Access::Metrics => json!([{}, { "metrics_token": [] }]),
            Access::Known(_) => json!([{ "token": [] }, { "session": [] }]),
        };
        let mut whole = json!({ "summary": operation.summary, "x-access": word(access), "security": security, "responses": answers });
        if !taken.is_empty() {
            whole["parameters"] = taken.into();
        }
        if let Some(body) = operation.body {
            whole["requestBody"] = json!({ "content": { "application/json": { "schema": body(&mut schemas.taken) } } });
        }
        whole
    }

    fn reason(status: u16) -> &'static str {
        axum::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Refused")
    }

    /// The document of now.
    fn document() -> Value {
        let mut schemas = Schemas::new();
        let access: Vec<(Method, &str, Access)> =
            routes().iter().flat_map(|route| route.methods.iter().map(move |method| (method.clone(), route.path, route.access))).collect();
        let mut paths = Map::new();
        for operation in described() {
            let found = access.iter().find(|(method, path, _)| *method == operation.method && *path == operation.path);
            let (_, _, access) =
                found.unwrap_or_else(|| panic!("{} {} is described, but there is no such route", operation.method, operation.path));
            let whole = operation_of(&operation, *access, &mut schemas);
            paths.entry(operation.path).or_insert_with(|| json!({}))[operation.method.as_str().to_lowercase()] = whole;
        }
        let error = schemas.given.subschema_for::<ErrorBody>();
        let errors: Map<String, Value> = ERRORS
            .iter()
            .map(|status| {
                (status.to_string(), json!({ "description": reason(*status), "content": { "application/json": { "schema": error } } }))
            })
            .collect();
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Watchkeeper",
                "version": "1",
                "description": "What docs/api.md tells in words. `x-access` says who may call an operation: anybody (`open`), whoever has the token in the \
                                path or that of the metrics, or a token or session with at least that role. Another tenant's things do not exist (404).",
                "license": { "name": "MIT", "identifier": "MIT" },
            },
            "servers": [{ "url": "/" }],
            "paths": paths,
            "components": {
                "responses": errors,
                "schemas": schemas.definitions(),
                "securitySchemes": {
                    "token": { "type": "http", "scheme": "bearer", "description": "An API token (`wk_…`), or a session's (`wks_…`)." },
                    "session": { "type": "apiKey", "in": "cookie", "name": "watchkeeper", "description": "Of whoever signed in in the page; \
                                 over TLS it is called `__Host-watchkeeper`. What changes something needs the header `X-Watchkeeper-Page` too." },
                    "metrics_token": { "type": "http", "scheme": "bearer", "description": "`server.metrics_token`, if that is set." },
                },
            },
        })
    }

    fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json")
    }

    #[test]
    #[ignore = "writes docs/openapi.json"]
    fn write_the_document() {
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        std::fs::write(file(), text).unwrap();
    }

    #[test]
    fn the_committed_document_is_what_the_routes_and_types_say() {
        let committed: Value = serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap();
        let made = document();
        let command = "run `cargo test -p watchkeeper --lib write_the_document -- --ignored` and look at what changed";
        for part in ["paths", "components", "info"] {
            let keys =
                |document: &Value| document[part].as_object().map(|map| map.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
            for key in keys(&made).union(&keys(&committed)) {
                assert!(
                    made[part][key] == committed[part][key],
                    "{part} {key} of docs/openapi.json is not what the program does; {command}"
                );
            }
        }
        assert_eq!(made, committed, "{command}");
    }

    #[test]
    fn every_route_is_described_once() {
        let mut known = BTreeSet::new();
        for operation in described() {
            assert!(
                known.insert((operation.path, operation.method.to_string())),
                "{} {} is described twice",
                operation.method,
                operation.path
            );
        }
        let there: BTreeSet<(&str, String)> =
            routes().iter().flat_map(|route| route.methods.iter().map(move |method| (route.path, method.to_string()))).collect();
        assert_eq!(known, there);
    }
}
