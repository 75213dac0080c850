// The story of an organization, told by a client in TypeScript whose types are made from the OpenAPI
// document. It does not compile if the document lacks what it uses, and fails if the service at
// ORGSERVICE_URL answers otherwise.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./openapi.js";

type Organization = components["schemas"]["Organization"];
type Tokens = components["schemas"]["Tokens"];

const baseUrl = process.env["ORGSERVICE_URL"]!;
const api = createClient<paths>({ baseUrl });

// An answer of openapi-fetch has data after a success and error after a refusal.
type Answer<Data, Refusal> = { data?: Data; error?: Refusal; response: Response };

// ok checks the status and returns the body of a success.
function ok<Data>(answer: Answer<Data, unknown>, status: number): Data {
  assert.equal(answer.response.status, status, JSON.stringify(answer.error));
  assert.match(answer.response.headers.get("x-request-id") ?? "", /^[\w.=-]{8,64}$/);
  return answer.data!;
}

// The types of the problems that the document has for an operation.
type ProblemOf<Refusal> = Extract<Refusal, { type: string; status: number }>;

// refused checks that the answer is this problem, and returns it.
function refused<Refusal, Type extends ProblemOf<Refusal>["type"]>(
  answer: Answer<unknown, Refusal>,
  type: Type,
): Extract<ProblemOf<Refusal>, { type: Type }> {
  const problem = answer.error as Extract<ProblemOf<Refusal>, { type: Type }>;
  assert.equal(problem?.type, type);
  assert.equal(problem.status, answer.response.status);
  assert.equal(answer.response.headers.get("content-type"), "application/problem+json");
  return problem;
}

// fields checks that the body has these fields and no others, and no value that is empty.
function fields<Body extends object>(body: Body, ...names: (keyof Body & string)[]): void {
  assert.deepEqual(Object.keys(body).sort(), names.sort());
  for (const name of names) assert.ok(body[name] || body[name] === false, name);
}

const bearer = (tokens: Tokens) => ({ headers: { authorization: `Bearer ${tokens.access_token}` } });

function checkTokens(tokens: Tokens): void {
  fields(tokens, "access_token", "token_type", "expires_in", "refresh_token");
  assert.equal(tokens.token_type satisfies "bearer", "bearer");
}

function checkOrganization(o: Organization, name: string, collection: string): void {
  fields(o, "id", "organization_name", "collection_name", "created_at", "updated_at");
  assert.deepEqual([o.id, o.organization_name, o.collection_name], [created.id, name, collection]);
  assert.ok(Date.parse(o.created_at) <= Date.parse(o.updated_at));
}

const unique = randomUUID().replaceAll("-", "");
const signUp = { organization_name: `Story ${unique}`, email: `${unique}@example.com`, password: "Admin@123" };
const credentials = { email: signUp.email, password: signUp.password };
const newPassword = "Another@123";

// Sign up.
const answer = await api.POST("/org/create", { body: signUp });
const created = ok(answer, 201)!; // it would be 204 where a sign-up must be verified first
fields(created, "id", "organization_name", "collection_name");
assert.equal(created.organization_name, signUp.organization_name);
assert.equal(created.collection_name, `org_story_${unique}`);
const found = await fetch(new URL(answer.response.headers.get("location")!, baseUrl));
assert.equal(((await found.json()) as Organization).id, created.id);

// The name is taken now, and a client can tell that from other conflicts.
const again = { ...signUp, organization_name: `  story ${unique.toUpperCase()}!`, email: `other-${signUp.email}` };
const taken = await api.POST("/org/create", { body: again });
assert.equal(refused(taken, "/problems/name-taken").status satisfies 409, 409);
const invalid = await api.POST("/org/create", { body: { ...again, password: "short" } });
assert.deepEqual(refused(invalid, "/problems/invalid-fields").errors.map((e) => e.field), ["password"]);

// Log in.
refused(await api.POST("/admin/login", { body: { ...credentials, password: newPassword } }), "/problems/wrong-credentials");
const first = ok(await api.POST("/admin/login", { body: credentials }), 200);
checkTokens(first);

// The admin, and the organization under its name.
const me = ok(await api.GET("/admin/me", bearer(first)), 200);
fields(me, "admin_id", "email", "email_verified", "organization_id", "organization_name", "collection_name", "expires_at", "role");
assert.equal(me.role, "owner");
assert.deepEqual([me.organization_id, me.email], [created.id, signUp.email]);
assert.ok(Math.abs(Date.parse(me.expires_at) - Date.now() - first.expires_in * 1000) < 60_000);
const anonymous = await api.GET("/admin/me");
assert.equal(anonymous.response.status, 401);
assert.ok(anonymous.error && "message" in anonymous.error); // of the gateway

// One more organization, and a token for it.
const more = `More ${unique}`;
const added = ok(await api.POST("/admin/organizations", { ...bearer(first), body: { organization_name: more } }), 201);
assert.equal(added.organization_name, more);
const { organizations } = ok(await api.GET("/admin/organizations", bearer(first)), 200);
assert.deepEqual(organizations.map((o) => o.id), [created.id, added.id].sort());
for (const o of organizations) {
  fields(o, "id", "organization_name", "collection_name", "role", "since");
  assert.equal(o.role, "owner");
}
const switched = ok(await api.POST("/admin/switch", { ...bearer(first), body: { organization_name: more } }), 200);
checkTokens(switched);
assert.equal(ok(await api.GET("/admin/me", bearer(switched)), 200).organization_id, added.id);
ok(await api.DELETE("/org/delete", bearer(switched)), 200);

// The logins of the admin, of which one is this one.
const { sessions } = ok(await api.GET("/admin/sessions", bearer(first)), 200);
const session = sessions.find((s) => s.current);
assert.ok(session);
fields(session, "id", "organization_id", "organization_name", "created_at", "used_at", "expires_at", "address", "user_agent", "current");
assert.equal(session.organization_id, created.id);
ok(await api.DELETE("/admin/sessions/{id}", { ...bearer(first), params: { path: { id: "none" } } }), 204);
ok(await api.DELETE("/admin/sessions", bearer(first)), 204);
assert.deepEqual(ok(await api.GET("/admin/sessions", bearer(first)), 200), { sessions: [session] });

// Invite somebody, and withdraw that. Nobody knows a ticket here.
const email = `guest-${unique}@example.com`;
const invited = ok(await api.POST("/org/invitations", { ...bearer(first), body: { email, role: "member" } }), 201);
fields(invited, "id", "email", "role", "invited_by", "created_at", "expires_at");
assert.deepEqual([invited.email, invited.role, invited.invited_by], [email, "member", me.admin_id]);
assert.deepEqual(ok(await api.GET("/org/invitations", bearer(first)), 200), { invitations: [invited] });
const withdraw = () => api.DELETE("/org/invitations/{id}", { ...bearer(first), params: { path: { id: invited.id } } });
ok(await withdraw(), 204);
refused(await withdraw(), "/problems/invitation-not-found");
const guess = { body: { ticket: "a guess", password: signUp.password } };
refused(await api.POST("/invitations/accept", guess), "/problems/invalid-ticket");
ok(await api.POST("/admin/forgot", { body: { email } }), 204);
refused(await api.POST("/admin/reset", guess), "/problems/invalid-ticket");
refused(await api.POST("/admin/verify", { body: { ticket: "a guess" } }), "/problems/invalid-ticket");
ok(await api.POST("/admin/verify/resend", bearer(first)), 204);
assert.equal(me.email_verified, false);

// The only owner stays.
const { members } = ok(await api.GET("/org/members", bearer(first)), 200);
assert.deepEqual(members.map((m) => m.admin_id), [me.admin_id]);
const member = { ...bearer(first), params: { path: { admin_id: me.admin_id } } };
refused(await api.PUT("/org/members/{admin_id}", { ...member, body: { role: "admin" } }), "/problems/last-owner");
refused(await api.DELETE("/org/members/{admin_id}", member), "/problems/last-owner");

const get = (name: string) => api.GET("/org/get", { params: { query: { organization_name: name } } });
checkOrganization(ok(await get(signUp.organization_name), 200), signUp.organization_name, created.collection_name);

// Rename.
const renamed = `Renamed ${unique}`;
const rename = await api.PUT("/org/update", { ...bearer(first), body: { organization_name: renamed } });
checkOrganization(ok(rename, 200), renamed, `org_renamed_${unique}`);
refused(await get(signUp.organization_name), "/problems/organization-not-found");
checkOrganization(ok(await get(renamed), 200), renamed, `org_renamed_${unique}`);

// Change the password, which ends every login.
const change = (current_password: string) =>
  api.PUT("/org/update", { ...bearer(first), body: { password: newPassword, current_password } });
refused(await change("Wrong@123"), "/problems/wrong-current-password");
ok(await change(signUp.password), 200);
refused(await api.GET("/admin/me", bearer(first)), "/problems/token-revoked");
refused(await api.POST("/admin/login", { body: credentials }), "/problems/wrong-credentials");
const second = ok(await api.POST("/admin/login", { body: { ...credentials, password: newPassword } }), 200);

// Refresh. A refresh token is good for one use.
const refresh = ({ refresh_token }: Tokens) => api.POST("/admin/refresh", { body: { refresh_token } });
const third = ok(await refresh(second), 200);
checkTokens(third);
ok(await api.GET("/admin/me", bearer(third)), 200);

// Another service asks about a token, before and after it is revoked.
const introspect = (secret: string) =>
  api.POST("/admin/introspect", {
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/x-www-form-urlencoded" },
    body: { token: third.access_token },
    bodySerializer: (body) => new URLSearchParams(body),
  });
const secret = process.env["INTROSPECTION_SECRET"]!;
const active = ok(await introspect(secret), 200);
fields(active, "active", "token_type", "iss", "aud", "sub", "client_id", "exp", "org", "sid", "roles");
assert.deepEqual([active.active, active.org, active.roles], [true, created.id, ["owner"]]);
refused(await introspect("wrong"), "/problems/client-refused");

// Log out.
ok(await api.POST("/admin/logout", { body: { refresh_token: third.refresh_token } }), 204);
refused(await api.GET("/admin/me", bearer(third)), "/problems/token-revoked");
refused(await refresh(third), "/problems/invalid-refresh-token");
assert.deepEqual(ok(await introspect(secret), 200), { active: false });

// An operator suspends the organization, and ends that.
const operator = { headers: { authorization: `Bearer ${process.env["OPERATOR_TOKEN"]!}` } };
const path = { id: created.id };
const suspended = ok(
  await api.POST("/operator/organizations/{id}/suspend", { ...operator, params: { path }, body: { reason: "unpaid" } }),
  200,
);
assert.deepEqual([suspended.id, suspended.status, suspended.member_count], [created.id, "suspended", 1]);
assert.deepEqual([suspended.history?.[0]?.act, suspended.history?.[0]?.reason], ["suspend", "unpaid"]);
refused(await api.POST("/admin/login", { body: { ...credentials, password: newPassword } }), "/problems/wrong-credentials");
refused(await get(renamed), "/problems/organization-not-found");
const listed = ok(
  await api.GET("/operator/organizations", { ...operator, params: { query: { prefix: renamed, status: "suspended" } } }),
  200,
);
assert.deepEqual(listed.organizations.map((o) => o.id), [created.id]);
ok(
  await api.POST("/operator/organizations/{id}/reactivate", { ...operator, params: { path }, body: { reason: "paid" } }),
  200,
);
ok(
  await api.POST("/operator/organizations", {
    ...operator,
    body: { organization_name: `Owned ${unique}`, email: `owner-${unique}@example.com` },
  }),
  204,
);
const named = ok(
  await api.POST("/operator/organizations/{id}/rename", {
    ...operator,
    params: { path },
    body: { reason: "asked for", organization_name: `${renamed} too` },
  }),
  200,
);
assert.equal(named.organization_name, `${renamed} too`);
ok(
  await api.POST("/operator/organizations/{id}/rename", {
    ...operator,
    params: { path },
    body: { reason: "asked for", organization_name: renamed },
  }),
  200,
);
for (const act of ["restore", "purge"] as const) {
  // It is not deleted.
  refused(
    await api.POST(`/operator/organizations/{id}/${act}`, { ...operator, params: { path }, body: { reason: "a mistake" } }),
    "/problems/organization-not-found",
  );
}
const shown = ok(await api.GET("/operator/organizations/{id}", { ...operator, params: { path } }), 200);
assert.deepEqual([shown.status, shown.members?.[0]?.email, shown.history?.length], ["active", signUp.email, 4]);
refused(
  await api.GET("/operator/organizations/{id}", { ...operator, params: { path: { id: "0" } } }),
  "/problems/organization-not-found",
);

// Delete, with the name as a confirmation.
const last = ok(await api.POST("/admin/login", { body: { ...credentials, password: newPassword } }), 200);
const remove = (name: string) =>
  api.DELETE("/org/delete", { ...bearer(last), params: { query: { organization_name: name } } });
refused(await remove("Another"), "/problems/wrong-confirmation");
const deleted = ok(await remove(renamed), 200);
fields(deleted, "id", "organization_name", "deleted_at");
assert.deepEqual([deleted.id, deleted.organization_name], [created.id, renamed]);
refused(await get(renamed), "/problems/organization-not-found");
refused(await api.GET("/admin/me", bearer(last)), "/problems/token-revoked");

assert.deepEqual(ok(await api.GET("/.well-known/jwks.json"), 200), { keys: [] }); // tokens are signed with a secret

// What must not compile: the types would be of no use if it did.
export const mistakes = () => [
  // @ts-expect-error: an email and a password are required
  api.POST("/org/create", { body: { organization_name: "Acme" } }),
  // @ts-expect-error: a name is a string
  api.PUT("/org/update", { body: { organization_name: 1 } }),
  // @ts-expect-error: the parameter is required
  api.GET("/org/get"),
  // @ts-expect-error: a login has no such problem
  refused(invalid, "/problems/wrong-credentials"),
  // @ts-expect-error: an answer has no such field
  created.name,
];

console.log(`ok: the story of ${renamed}`);
