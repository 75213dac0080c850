"use strict";

// The search would need a worker that is made from a string.
Redoc.init("/openapi.json", { disableSearch: true }, document.getElementById("redoc"));
