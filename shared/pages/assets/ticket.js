"use strict";

// The pages that links in mails lead to, by their paths. A press of the button sends the
// ticket in the link; whatever only opens the link uses up nothing.
const page = {
  "/verify-email": {
    title: "Confirm your email", button: "Confirm", url: "/admin/verify",
    done: "Your email is confirmed.",
  },
  "/reset-password": {
    title: "Choose a new password", button: "Set the password", url: "/admin/reset",
    password: "New password", done: "You have a new password, and are logged out everywhere.",
  },
  "/accept-invitation": {
    title: "Accept the invitation", button: "Accept", url: "/invitations/accept",
    password: "The password of your account or, if you have none, of a new one", done: "You are a member of the organization.",
  },
  "/finish-sign-up": {
    title: "Finish your sign-up", button: "Create the organization", url: "/invitations/accept",
    password: "The password of your account or, if you have none, of a new one", done: "Your organization is there. You can log in now.",
  },
}[location.pathname];

const element = (id) => document.getElementById(id);
const ticket = new URLSearchParams(location.search).get("ticket");
history.replaceState(null, "", location.pathname); // nobody finds the ticket there later

document.title = element("title").textContent = page.title;
element("button").textContent = page.button;
if (page.password) {
  element("entry").hidden = false;
  element("entry").firstChild.textContent = page.password;
}
if (!ticket) {
  element("form").hidden = true;
  element("answer").textContent = "Open the link in the mail once more.";
}

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  element("button").disabled = true;
  element("answer").textContent = "";
  const body = page.password ? { ticket, password: element("password").value } : { ticket };
  try {
    const response = await fetch(page.url, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await response.text();
    if (response.ok) {
      element("form").hidden = true;
      element("answer").textContent = page.done;
    } else {
      const problem = JSON.parse(answer);
      element("answer").textContent = problem.detail ?? problem.message;
    }
  } catch {
    element("answer").textContent = "The service can't be reached.";
  }
  element("button").disabled = false;
});
