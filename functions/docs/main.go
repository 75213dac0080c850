// Command docs is the Lambda function behind the pages: /docs, /redoc, the OpenAPI
// document and what they need.
package main

import (
	"context"
	"net/http"

	"orgservice/shared/api"
	"orgservice/shared/pages"
)

func main() {
	api.Serve(func(context.Context) (http.Handler, error) { return api.Pages(pages.Find), nil })
}
