// Shows the document of the service that the page is from.

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null, // it would send the document to another host
  onComplete: () => {
    const title = document.querySelector(".info .title");
    if (title) document.title = `API: ${title.firstChild.textContent}`;
  },
});
