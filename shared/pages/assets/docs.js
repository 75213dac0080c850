"use strict";

const ui = SwaggerUIBundle({
  dom_id: "#docs",
  url: "/openapi.json",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  // A login or a refresh authorizes the page. It forgets the token when it is left.
  responseInterceptor(response) {
    if (response.ok && /\/admin\/(login|refresh)$/.test(response.url)) {
      ui.preauthorizeApiKey("token", response.body.access_token);
    }
    return response;
  },
});
