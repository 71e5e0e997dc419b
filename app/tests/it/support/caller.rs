//! Somebody with a token, and what the API says to them.

use super::app::TestApp;
use super::web::{Answer, call};
use bytes::Bytes;
use http::{Method, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use std::net::SocketAddr;
use watchkeeper::store::TenantScope;
use watchkeeper::web::auth::{Role, create_token};
use watchkeeper_core::Micros;

/// Somebody with a token.
#[derive(Clone)]
pub struct Caller {
    pub address: SocketAddr,
    pub token: String,
}

impl Caller {
    pub async fn of(app: &TestApp, tenant: &str, role: Role) -> Self {
        let tenants = app.store.tenants().await.unwrap();
        let scope = TenantScope(tenants.iter().find(|(_, slug)| slug == tenant).expect("the tenant is there").0);
        let token = create_token(&*app.store, scope, role.as_str(), role, Micros(0)).await.unwrap();
        Self { address: app.address, token: token.expose_secret().to_owned() }
    }

    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        call(self.address, method, path, Some(&self.token), headers, body.into()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &[], body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, &[], body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, &[], body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], "").await
    }
}

pub fn etag(answer: &Answer) -> String {
    answer.headers["etag"].to_str().unwrap().to_owned()
}

/// What is wrong with which field.
pub fn problems(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "bad_object"), "{}", answer.body);
    let json = answer.json();
    let one = |problem: &Value| (problem["path"].as_str().unwrap().to_owned(), problem["found"].as_str().unwrap().to_owned());
    json["problems"].as_array().unwrap().iter().map(one).collect()
}
